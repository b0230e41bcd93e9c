from __future__ import annotations

import asyncio

import pytest

from townhall.engine.memory import MemoryEngine
from townhall.hub.hub import Hub
from townhall.model.errors import InvalidField
from townhall.model.tie import Direction, Tie
from townhall.ops.config import BadConfig, load
from townhall.ops.settings import Layouts
from townhall.ops.ties import put_ties, ties_of

SERVICE = Tie("etcd", b"service/", "naming", Direction.IMPORT)


def test_by_default_etcds_own_naming_is_read_below_service():
    assert ties_of(Layouts()) == (SERVICE,)
    assert ties_of(Layouts(etcd_import="")) == ()


def test_what_can_be_written():
    layouts = Layouts(
        etcd_import="service/, /microservices/=kratos@shop ,kitex/registry-etcd/=kitex@prod/shop",
        etcd_export="all/=naming",
    )
    assert ties_of(layouts) == (
        SERVICE,
        Tie("etcd", b"/microservices/", "kratos", Direction.IMPORT, "default", "shop"),
        Tie("etcd", b"kitex/registry-etcd/", "kitex", Direction.IMPORT, "prod", "shop"),
        Tie("etcd", b"all/", "naming", Direction.EXPORT),
    )


@pytest.mark.parametrize(
    ("layouts", "text"),
    [
        (Layouts(etcd_import="x/=dubbo"), "layouts.etcd_import: layout: 'dubbo' is none"),
        (Layouts(etcd_export="service/web/"), "layouts.etcd_export: prefix: 'service/web/' overlaps 'service/'"),
        (Layouts(etcd_export="all"), "does not end in '/'"),
        (Layouts(etcd_import="x/@a b"), "group"),
    ],
)
def test_what_cannot(layouts, text):
    with pytest.raises(InvalidField, match=text):
        ties_of(layouts)


def test_the_configuration_is_checked_whole():
    with pytest.raises(BadConfig, match=r"layouts\.etcd_export: prefix: 'service/' overlaps"):
        load({}, {}, {"layouts": {"etcd_export": "service/"}})
    assert load({}, {"TOWNHALL_LAYOUTS_ETCD_EXPORT": "all/"}).settings.layouts.etcd_export == "all/"


def test_they_come_into_force_once():
    async def scenario():
        hub = Hub.open(MemoryEngine())
        await hub.start()
        assert await put_ties(hub, (SERVICE,)) is None
        position = hub.state.position
        assert hub.state.ties.all == (SERVICE,)
        assert await put_ties(hub, (SERVICE,)) is None
        assert hub.state.position == position
        refused = await put_ties(hub, (SERVICE, SERVICE))
        assert isinstance(refused, InvalidField)
        await hub.stop()

    asyncio.run(scenario())
