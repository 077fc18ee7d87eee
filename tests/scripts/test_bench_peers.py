"""Who takes part in the benchmarks, and what they are asked to do."""

from __future__ import annotations

import json

import pytest

from scripts.bench import workloads
from scripts.bench.environment import pins
from scripts.bench.peers import catalog
from scripts.bench.peers.catalog import ABILITIES, APPS, PEERS, Site

SITE = Site("/bin/python", 8123, ("k.pem", "c.pem"), "/files", "/scratch", 7)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_has_a_whole_command_and_pinned_needs(peer: catalog.Peer) -> None:
    words = peer.start(SITE)
    assert not [word for word in words if "{" in word]
    apps = [word for word in words if word.startswith(str(APPS))]
    modules = [word for word in words if word.startswith("scripts.bench.")]
    assert apps or modules
    for module in modules:
        assert (APPS / f"{module.partition(':')[0].rpartition('.')[2]}.py").is_file()
    for app in apps:
        assert (APPS / app).is_file()
    assert set(peer.needs) <= pins().keys()
    assert ABILITIES.issuperset(peer.without)
    surroundings = peer.surroundings(SITE)
    assert (surroundings["BENCH_PORT"], surroundings["BENCH_KEY"]) == ("8123", "k.pem")


def test_peers_are_chosen_by_name_or_by_the_beginning_of_several() -> None:
    assert [peer.name for peer in catalog.named("ours,nginx")] == ["ours", "nginx"]
    assert [peer.name for peer in catalog.named("granian")] == [
        "granian WSGI",
        "granian ASGI",
        "granian RSGI",
    ]
    assert [peer.name for peer in catalog.named("flask,flask/bjoern")] == [
        "flask/waitress",
        "flask/bjoern",
    ]
    with pytest.raises(ValueError, match="no peer 'apache'; there are ours, "):
        catalog.named("ours,apache")


def test_workloads_are_chosen_by_name() -> None:
    assert [each.name for each in workloads.named("tls,hello")] == ["tls", "hello"]
    with pytest.raises(ValueError, match="no workload 'hallo'; there are hello, "):
        workloads.named("hallo")


def test_workloads_are_what_their_titles_say() -> None:
    by_name = workloads.BY_NAME
    assert len(workloads.ORDER) == 1024
    assert json.loads(workloads.ORDER)["order"] == 4711
    # Host is the fourteenth.
    assert len(by_name["browser"].fields) == 13
    assert len(by_name["page"].answer or b"") == 10 * 1024
    assert len(by_name["file-1m"].answer or b"") == 1 << 20
    for workload in workloads.WORKLOADS:
        assert ABILITIES.issuperset(workload.needs)
