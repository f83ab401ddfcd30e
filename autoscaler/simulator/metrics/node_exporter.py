"""A simulated machine as node_exporter 1.5 would expose it: CPU, memory, load and time."""

from collections.abc import Iterator
from typing import Final

from autoscaler.simulator.metrics.text_format import Page, Row
from autoscaler.simulator.world.objects import SimNode

_SHARES: Final = (("iowait", 0.003), ("irq", 0.0), ("nice", 0.0), ("softirq", 0.003), ("steal", 0.004), ("system", 0.2))
"""How the busy time is spread over the modes; the rest is `user`."""


def node_exporter(node: SimNode, now_s: float) -> str:
    """What node-exporter on one node exposes."""
    page = Page()
    machine = node.machine
    cpus = max(1, node.capacity.cpu_millicores // 1000)
    page.family("node_boot_time_seconds", (({}, machine.booted_at_s),))
    page.family("node_cpu_seconds_total", _cpu_seconds(node, cpus, now_s), kind="counter")
    load = node.machine.cpu.rate(now_s)
    for minutes in (1, 5, 15):
        page.family(f"node_load{minutes}", (({}, round(load, 2)),))
    page.family(
        "node_memory_MemAvailable_bytes",
        (({}, float(int(node.capacity.memory_bytes - node.machine.memory.rate(now_s)))),),
    )
    page.family("node_memory_MemTotal_bytes", (({}, float(node.capacity.memory_bytes)),))
    page.family("node_time_seconds", (({}, now_s),))
    uname = {
        "domainname": "(none)",
        "machine": "x86_64",
        "nodename": node.name,
        "release": "6.1.0",
        "sysname": "Linux",
        "version": "#1 SMP",
    }
    page.family("node_uname_info", ((uname, 1.0),))
    return page.text()


def _cpu_seconds(node: SimNode, cpus: int, now_s: float) -> Iterator[Row]:
    busy_s = node.machine.cpu.total(now_s)
    for cpu in range(cpus):
        share_s = busy_s / cpus
        labels = {"cpu": str(cpu)}
        yield {**labels, "mode": "idle"}, node.machine.idle_seconds(now_s)
        for mode, share in _SHARES:
            yield {**labels, "mode": mode}, share_s * share
        yield {**labels, "mode": "user"}, share_s * (1 - sum(share for _, share in _SHARES))
