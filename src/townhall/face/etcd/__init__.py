"""The etcd face: etcd's gRPC services, and its JSON gateway over the same handlers.

=====================  ===============================================================================
``auth``                users, roles, permissions, logging in (the guard of the space)
``cluster``             one member
``maintenance``         status, alarms, hashes, backup
``waiting``             turns among the keys of a prefix: ``locks`` and ``elections``
``health``              grpc.health.v1
``guarded``             who must say who they are before anything is answered
``answers``, ``member``  what all of them answer with, and who this server says it is
=====================  ===============================================================================
"""
