"""Sockets: HTTP/1.1 listeners and the driver that carries out what faces return.

``server.HttpServer(face, hub, options)`` serves one face on any number of listeners. From the bytes inwards: ``framing`` finds
where requests begin and end, ``heads`` (over httptools' parser) makes plans of them, ``http1`` is the connection that
keeps the order, ``driver`` runs the verbs (``waiting``: Submit and Park, ``streams``: Stream and Duplex), ``replies``
renders and remembers answers, ``wheel`` tells the time for all timeouts, ``tls`` loads and reloads certificates.
"""
