"""A service seen by those who need one method or interface: the instances that offer it, with a balancer of their own.

During a roll-out some instances have it and some have not; their revisions tell which. An instance is left out only
when its document is known and does not have the name. One that names no revision, or whose document cannot be had yet,
may be called, unless the caller insists: a missing document must not take a provider away.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from townhall.client.chooser import Chooser
from townhall.client.handle import ServiceHandle
from townhall.client.interfaces import Interfaces, revision_of
from townhall.client.picture import Change
from townhall.client.records import Instance
from townhall.model.errors import NoInstance

__all__ = ["InterfaceView"]


class InterfaceView(ServiceHandle):
    """Made by ``ServiceHandle.with_interface``, which it follows. Ejections, retries and load are counted together."""

    def __init__(self, whole: ServiceHandle, make_chooser: Callable[[], Chooser], name: str, *, insist: bool) -> None:
        super().__init__(whole.key, make_chooser, whole.shared, whole.start_timeout_s)
        self._whole = whole
        self._name = name
        self._insist = insist
        self.chooser.join(whole.chooser)

    async def start(self) -> None:
        """Start the whole service, and wait a little for the documents that are not known yet."""
        await self._whole.start()
        if self._picture is None:
            self.follow()
            assert self._shared is not None
            revisions = {revision_of(one.metadata) for one in self._whole.instances()}
            await self._shared.interfaces.wait(revisions, budget_s=self.start_timeout_s)

    def started_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """See ``ServiceHandle.started_in``."""
        return self._picture is not None and self._whole.started_in(loop)

    def settle(self) -> None:
        """See ``ServiceHandle.settle``."""
        self._whole.settle()

    def begin_anew(self) -> None:
        """See ``ServiceHandle.begin_anew``; done by the whole service's."""
        super().begin_anew()
        self.chooser.join(self._whole.chooser)

    def follow(self) -> None:
        """Take over what the whole service knows, and its changes from now on; nothing while it is not started."""
        picture = self._whole.picture
        if picture is None or self._picture is not None:
            return
        self._shared = self._whole.shared()
        self._unlisten = self._shared.interfaces.listen(self._document)
        self._picture = picture
        self._rebuild()

    def stop(self) -> None:
        """Done by the whole service's ``stop``; what it is started for later begins anew."""
        if self._unlisten is not None:
            self._unlisten()
        self._unlisten = self._shared = self._picture = None
        self.chooser.rebuild((), now_ms=0.0, unix_ms=0.0)

    def instances(self, *, callable_only: bool = False) -> tuple[Instance, ...]:
        """Those that offer it, or may offer it when the caller does not insist."""
        return tuple(one for one in super().instances(callable_only=callable_only) if self._may(one))

    def pick(self, key: str | bytes | None = None, *, supporting: str = "") -> Instance:
        """See ``ServiceHandle.pick``; ``why`` is ``not_offered`` when there are callable ones, but none offers it."""
        self.follow()
        return super().pick(key, supporting=supporting)

    def with_interface(self, name: str, *, insist: bool = False) -> ServiceHandle:
        """A view of the whole service, not of this view."""
        return self._whole.with_interface(name, insist=insist)

    def failed(self, instance: Instance, kind: str) -> None:
        """See ``ServiceHandle.failed``; the whole service and its other views leave it out too."""
        self._whole.failed(instance, kind)

    def learnt(self, change: Change) -> None:
        """Told by the whole service, before ``refresh``."""
        if self._picture is not None:
            self._picture = change.picture
            self._tell(change)

    def refresh(self) -> None:
        """Told by the whole service when it chooses anew."""
        self._rebuild()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _may(self, instance: Instance) -> bool:
        assert self._shared is not None
        revision = revision_of(instance.metadata)
        document = self._shared.interfaces.get(revision) if revision else None
        return not self._insist if document is None else document.offers(self._name)

    def _document(self, document: Interfaces) -> None:
        """A document became known: of ours if an instance has its revision."""
        picture = self._picture
        if picture is None or not any(revision_of(one.metadata) == document.revision for one in picture.instances):
            return
        self._rebuild()
        # Who waits for an instance looks again, although the service has not changed.
        self._tell(Change(picture, (), ()))

    def _rebuild(self) -> None:
        picture = self._picture
        if picture is None or self._shared is None:
            return
        revisions = {revision_of(one.metadata) for one in picture.instances} - {""}
        self._shared.interfaces.want(revisions, self._whole.instances)
        loop = asyncio.get_running_loop()
        chosen = self.instances()
        # The whole service knows when it must be worked out anew: it is, for all views.
        self.chooser.rebuild(chosen, now_ms=loop.time() * 1000, unix_ms=time.time() * 1000)

    def _nothing(self) -> NoInstance:
        left_out = [one for one in super().instances(callable_only=True) if not self._may(one)]
        if self._picture is None or not left_out or self.instances(callable_only=True):
            return super()._nothing()
        found = Counter(revision_of(one.metadata) or "none" for one in left_out)
        revisions = ", ".join(f"{count} of revision {revision}" for revision, count in found.items())
        return NoInstance(
            f"no callable instance of {self.key} is known to offer {self._name!r}: {revisions}",
            advice="'townhall interfaces' shows who offers what",
            service=str(self.key),
            why="not_offered",
        )
