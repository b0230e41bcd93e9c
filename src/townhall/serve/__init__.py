"""Sockets: HTTP/1.1 and HTTP/2 listeners and the drivers that carry out what faces return.

``server.HttpServer(face, hub, options, grpc=...)`` serves an HTTP face, a gRPC face or both on any number of listeners;
``entry`` tells their connections apart, ``peers`` counts them. ``wheel`` tells the time for all timeouts, ``tls`` loads
and reloads certificates.

HTTP/1.1, from the bytes inwards: ``wire.http1_reader`` finds where requests begin and end, ``heads`` (over httptools' parser) makes
plans of them, ``http1`` is the connection that keeps the order, ``driver`` runs the verbs (``waiting``: Submit and Park,
``streams``: Stream and Duplex), ``replies`` renders and remembers answers.

gRPC has the same furniture: ``http2`` is the connection (over ``wire.http2``), ``grpc_plans`` makes plans of heads,
``calls`` runs the verbs (``call_waiting``, ``call_streams``; ``follows`` for the many things that one call watches).
"""
