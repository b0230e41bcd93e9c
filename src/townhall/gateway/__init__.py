"""The gateway: server-side discovery for clients that want no SDK. A proxy whose upstreams are services.

From the bytes inwards: ``entry`` tells a client's protocol, ``inbound`` and ``inbound_http2`` (with an ``inbound_stream`` for
each request) are its connection, ``requests`` reads heads strictly (those of HTTP/2 after ``http2_heads`` has written them as
HTTP/1.1 would), ``routes`` finds the service, ``exchange`` takes the request there (and to another instance when that fails).
``endpoint`` and ``endpoint_http2`` keep the connections to an instance, ``outbound`` and ``outbound_http2`` are one, ``answers``
reads what comes back as strictly. ``contracts`` says how the two sides talk to an exchange, which knows neither's protocol.
``fields`` says what of a head goes on. What is forwarded is always framed anew by us; what could be read in two ways goes
nowhere.

Instances, balancers, ejection, zones and the retry budget are the SDK's own (``townhall.client``), through
``services``. Everything that decides is pure and knows no socket: requests, answers, fields, routes, config, buckets,
breaker, frames, problems.
"""
