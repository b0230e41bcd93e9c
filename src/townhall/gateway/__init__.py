"""The gateway: server-side discovery for clients that want no SDK. An HTTP/1.1 proxy whose upstreams are services.

From the bytes inwards: ``inbound`` is a client's connection, ``requests`` reads its heads strictly, ``routes`` finds the
service, ``exchange`` takes the request there (and to another instance when that fails), ``outbound`` is a connection to
an instance, ``answers`` reads what comes back as strictly. ``fields`` says what of a head goes on. What is forwarded is
always framed anew by us; what could be read in two ways goes nowhere.

Instances, balancers, ejection, zones and the retry budget are the SDK's own (``townhall.client``), through
``services``. Everything that decides is pure and knows no socket: requests, answers, fields, routes, config, buckets,
breaker, frames, problems.
"""
