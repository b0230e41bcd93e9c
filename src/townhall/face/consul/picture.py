"""The one catalogue as Consul sees it: which node an instance is on, which checks speak for it.

Natively registered instances belong to no node, so they are shown on the server's own. Their verdict has no check
behind it, so one is derived, ``service:<id>``. The same is done for an instance of Consul's that is kept from its
callers by what Consul has no check for (a drain, an operator's word, callers' reports).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from townhall.core import Interest
from townhall.core.queries import Reader
from townhall.face.consul.shapes import SERVICE_MAINTENANCE, service_id
from townhall.face.consul.site import Site
from townhall.model.check import Check, CheckStatus, Node
from townhall.model.errors import Denied, NotFound, Unauthenticated
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, Instance, ServiceKey, Verdict

__all__ = ["DerivedCheck", "Picture", "index_of", "instance_name", "service_key"]

SERF_HEALTH = "serfHealth"
_by_id = attrgetter("id")


def service_key(name: str) -> ServiceKey:
    """The service of this name in the part of the catalogue that Consul shows."""
    return ServiceKey(DEFAULT_NAMESPACE, DEFAULT_GROUP, name)


def index_of(revision: int) -> int:
    """Consul's index for a position of our journal: one more, because 1 is what a registry without any commit says."""
    return revision + 1


def instance_name(site: Site, node: str, service: str) -> str:
    """Our instance id for a service id on a node."""
    return service if node == site.node else f"{node}/{service}"


class DerivedCheck(Check, frozen=True, gc=False, array_like=True, kw_only=True):
    """A check that nobody registered: what the verdict of an instance says, in Consul's words."""


class Picture:
    """Looks at the catalogue for Consul's handlers."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.own_node = site.own_node()
        self.own_service = site.own_service()
        self._serf = Check(
            node=site.node, id=SERF_HEALTH, name="Serf Health Status", status=CheckStatus.PASSING,
            output="Agent alive and reachable", created=1, revision=1,
        )  # fmt: skip

    # --- nodes

    def node(self, reader: Reader, name: str) -> Node | None:
        """A node by its name; the server's own is always there. '' is the server's own too."""
        try:
            return reader.node(name or self.site.node)
        except NotFound:
            return self.own_node if name in ("", self.site.node) else None
        except (Denied, Unauthenticated):
            return None  # Who may not see a node is not told of what is on it.

    def nodes(self, reader: Reader) -> list[Node]:
        """All nodes by name."""
        found = list(reader.nodes())
        if all(node.name != self.site.node for node in found):
            found.append(self.own_node)
        return sorted(found, key=attrgetter("name"))

    def service_index(self, reader: Reader, key: ServiceKey) -> int:
        """The index of a service with its instances and their checks and nodes."""
        return index_of(reader.service_revision(key))

    def spelled(self, reader: Reader, name: str) -> str:
        """The name under which a service is known: Consul's lookups do not mind capitals."""
        lower = name.lower()
        if (
            lower == name
            or reader.service_revision(service_key(name))
            or not reader.service_revision(service_key(lower))
        ):
            return name
        return lower

    def node_index(self, reader: Reader, name: str) -> int:
        """The index of a node with what is on it. Native instances are on no node: the listing speaks for them."""
        revision = reader.node_revision(name)
        if name == self.site.node:
            revision = max(revision, reader.listing_revision(DEFAULT_NAMESPACE))
        return index_of(revision)

    def node_interests(self, name: str) -> Sequence[Interest]:
        """What changes answers about a node."""
        if name == self.site.node:
            return (("node", name), ("services", DEFAULT_NAMESPACE))
        return (("node", name),)

    # --- services

    def instances(self, reader: Reader, name: str) -> Sequence[Instance]:
        """The instances of a service. ``consul`` has the server itself among them."""
        found = reader.instances(service_key(name))
        if name == "consul":
            return (self.own_service, *found)
        return found

    def names(self, reader: Reader) -> list[str]:
        """The services that have instances."""
        return [
            summary.key.name
            for summary in reader.services(DEFAULT_NAMESPACE)
            if summary.instances and summary.key.group == DEFAULT_GROUP
        ]

    def on_node(self, reader: Reader, name: str) -> list[Instance]:
        """The instances on a node, by service id; those of no node are on the server's own."""
        found = [one for one in reader.node_instances(name) if _shown(one)]
        if name == self.site.node:
            found += self.homeless(reader)
        return sorted(found, key=_by_id)

    def homeless(self, reader: Reader) -> list[Instance]:
        """Instances that belong to no node, which other protocols registered."""
        return [
            instance
            for name in self.names(reader)
            for instance in reader.instances(service_key(name))
            if not instance.node
        ]

    def find(self, reader: Reader, node: str, service: str) -> Instance | None:
        """The instance with this service id on a node."""
        place = reader.node_place(node, instance_name(self.site, node, service))
        if place is not None and place[:2] == (DEFAULT_NAMESPACE, DEFAULT_GROUP):
            return reader.instance(place, instance_name(self.site, node, service))
        return None

    def find_shown(self, reader: Reader, service: str) -> Instance | None:
        """The instance with this service id on the server's own node, native ones included."""
        found = self.find(reader, self.site.node, service)
        if found is not None:
            return found
        return next((one for one in self.homeless(reader) if one.id == service), None)

    # --- checks

    def node_checks(self, reader: Reader, name: str) -> list[Check]:
        """The checks of a node as a whole; the server's own vouches for itself."""
        found = reader.checks_about_node(name)
        return [*found, self._serf] if name == self.site.node else found

    def service_checks(self, reader: Reader, instance: Instance) -> list[Check]:
        """The checks of an instance, with those derived from its verdict."""
        if instance is self.own_service:
            return []
        # A provider's own word belongs to no node; the derived check says the same.
        found = [check for check in reader.checks_of_instance(instance.key, instance.id) if check.node]
        derived = self._derived(instance, found)
        return found if derived is None else [derived, *found]

    def checks_for(self, reader: Reader, instance: Instance) -> list[Check]:
        """Everything that speaks for or against an instance: its node's checks first."""
        if not instance.node:
            return [self._serf, *self.service_checks(reader, instance)]
        return [*self.node_checks(reader, instance.node), *self.service_checks(reader, instance)]

    def all_on_node(self, reader: Reader, name: str) -> list[tuple[Check, Instance | None]]:
        """All checks of a node, each with the instance it is about."""
        found: list[tuple[Check, Instance | None]] = [(check, None) for check in self.node_checks(reader, name)]
        for instance in self.on_node(reader, name):
            found += [(check, instance) for check in self.service_checks(reader, instance)]
        return found

    def _derived(self, instance: Instance, found: Iterable[Check]) -> Check | None:
        verdict, name = instance.verdict, service_id(instance, self.site)
        if verdict is Verdict.MAINTENANCE:
            notes = instance.evidence.maintenance or instance.reason
            return self._check(instance, SERVICE_MAINTENANCE + name, "Service Maintenance Mode", notes=notes)
        if instance.protocol == "consul" and (
            instance.callable or any(check.status is CheckStatus.CRITICAL for check in found)
        ):
            return None
        if instance.protocol == "consul" and instance.evidence.probe is Verdict.DOWN:
            return None  # A check of its node is shown beside it.
        label = f"Service '{instance.key.name}' check"
        return self._check(instance, f"service:{name}", label, output=instance.reason or verdict.value)

    def _check(self, instance: Instance, name: str, label: str, *, notes: str = "", output: str = "") -> Check:
        passing = instance.callable
        if instance.verdict is Verdict.MAINTENANCE:
            passing = False
        return DerivedCheck(
            node=instance.node or self.site.node, id=name, name=label,
            status=CheckStatus.PASSING if passing else CheckStatus.CRITICAL, notes=notes,
            output=output, key=instance.key, instance=instance.id,
            created=instance.incarnation, revision=instance.revision, since=instance.since,
        )  # fmt: skip


def _shown(instance: Instance) -> bool:
    return instance.key[:2] == (DEFAULT_NAMESPACE, DEFAULT_GROUP)
