"""The etcd face: etcd's gRPC services, and its JSON gateway over the same handlers.

=====================  ===============================================================================
``routes``              the face: all methods in one table
``kv``                  Range, Put, DeleteRange, Txn, Compact; ``requests`` checks what is asked, ``pieces`` keeps what is
                        encoded, ``responses`` writes what transactions answer
``watch``, ``events``   many watches on one stream, and events encoded once for all of them
``leases``              leases of keys
``compaction``          when how much of the history is forgotten by itself
``errors``              codes and texts
``auth``                users, roles, permissions, logging in (the guard of the space)
``cluster``             one member
``maintenance``         status, alarms, hashes, backup
``waiting``             turns among the keys of a prefix: ``locks`` and ``elections``
``health``              grpc.health.v1
``guarded``             who must say who they are before anything is answered
``answers``, ``member``  what all of them answer with, and who this server says it is
=====================  ===============================================================================
"""
