"""The demo: a real registry, real providers and a consumer that calls them through kills, hangs and a restart.

``script`` is the play, ``stage`` owns the processes, ``provider`` is what each provider process runs, ``caller``
makes the calls, ``board`` holds what is known at any moment and ``screen`` shows it.
"""
