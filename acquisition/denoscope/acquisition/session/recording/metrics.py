"""A running session's numbers for Prometheus, over HTTP on this computer alone."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.extras import require
from denoscope.acquisition.lane.latency import LatencyHistogram
from denoscope.acquisition.session.states import SessionState, SessionStatus
from denoscope.runtime import InvalidInput

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["BUCKETS_S", "Gauges", "MetricsServer", "metrics_address"]

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper edges of the latency histogram in seconds; each exact to the 1 % of `LatencyHistogram`."""

_ADDRESS = re.compile(r"(?:(?P<host>\[[^\]]+\]|[^:\[\]]+):)?(?P<port>\d{1,5})")


def metrics_address(text: str) -> tuple[str, int]:
    """Return host and port of ``PORT`` or ``HOST:PORT``.

    Raises
    ------
    InvalidInput
        When it is neither, or an address that other computers reach.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or int(match["port"]) >= 2**16:
        raise InvalidInput(f"`metrics` {text} is no port: give a number below 65536, like 9123.")
    host = (match["host"] or "127.0.0.1").strip("[]")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InvalidInput(
            f"`metrics` {text} can be reached from other computers, and nothing protects it there: give the port "
            "alone, for 127.0.0.1, and let a Prometheus agent on this computer pass it on."
        )
    return host, int(match["port"])


class Gauges:
    """Values for a scrape, each taken when it is asked for; none waits for the session.

    Parameters
    ----------
    latency
        Of the frames in the steady state.
    late_s
        Latency beyond which a frame counts as late.
    queues
        Returns length and limit of each queue.
    free_bytes
        Returns the free space of the disk.
    info
        Labels that say what runs.
    """

    def __init__(
        self,
        latency: LatencyHistogram,
        *,
        late_s: float,
        queues: Callable[[], Mapping[str, tuple[int, int]]],
        free_bytes: Callable[[], int],
        info: Mapping[str, str],
    ) -> None:
        self.status: SessionStatus | None = None
        self._latency = latency
        self._late_s = late_s
        self._queues = queues
        self._free_bytes = free_bytes
        self._info = dict(info)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics; called by the exporter's threads."""
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("denoscope_session", "What is recorded and denoised.", value=self._info)
        status = self.status
        if status is not None:
            yield from self._counters(status)
            yield from self._of_now(status)
        yield self._histogram()
        depth = GaugeMetricFamily("denoscope_queue_frames", "Frames that wait.", labels=["queue"])
        limit = GaugeMetricFamily("denoscope_queue_limit_frames", "Frames that may wait.", labels=["queue"])
        for name, (length, most) in self._queues().items():
            depth.add_metric([name], length)
            limit.add_metric([name], most)
        yield depth
        yield limit
        try:
            free = float(self._free_bytes())
        except OSError:  # the disk is away; the session says so
            return
        yield GaugeMetricFamily(
            "denoscope_disk_free_bytes", "Free space of the recording's disk.", value=free
        )

    def _counters(self, status: SessionStatus) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily

        for name, words, value in (
            ("received", "Frames popped from the source.", status.received),
            ("raw_written", "Frames complete in the raw recording.", status.written_raw),
            ("denoised", "Denoised frames written.", status.emitted),
            ("missing", "Frames lost before they reached the source's output.", status.missing),
            ("late", f"Denoised frames that took longer than {self._late_s:g} s.", self._late()),
        ):
            yield CounterMetricFamily(f"denoscope_frames_{name}", words, value=value)
        skipped = CounterMetricFamily(
            "denoscope_frames_skipped", "Frames deliberately not denoised; each is raw.", labels=["reason"]
        )
        for reason, frames in status.dropped.items():
            skipped.add_metric([reason], frames)
        yield skipped

    def _of_now(self, status: SessionStatus) -> Iterable[Metric]:
        from prometheus_client.core import GaugeMetricFamily, StateSetMetricFamily

        yield StateSetMetricFamily(
            "denoscope_state",
            "Where the session stands.",
            value={state.value: state is status.state for state in SessionState},
        )
        for name, words, value in (
            ("degraded", "1 when something went wrong that the user must know of.", int(status.degraded)),
            ("frames_in_flight", "Frames received and neither denoised nor skipped yet.", status.in_flight),
            ("elapsed_seconds", "Since the camera was armed.", status.elapsed_s),
        ):
            yield GaugeMetricFamily(f"denoscope_{name}", words, value=value)
        rate = GaugeMetricFamily(
            "denoscope_frames_per_second", "Over the last seconds.", labels=["direction"]
        )
        rate.add_metric(["in"], status.fps_in)
        rate.add_metric(["out"], status.fps_out)
        yield rate

    def _below(self, seconds: float) -> int:
        counts = self._latency.counts
        return int(counts[: int(np.searchsorted(self._latency.edges_s(), seconds))].sum())

    def _late(self) -> int:
        return int(self._latency.counts.sum()) - self._below(self._late_s)

    def _histogram(self) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        total = int(self._latency.counts.sum())
        buckets = [(str(edge), float(min(self._below(edge), total))) for edge in BUCKETS_S]
        mean_s = self._latency.quantiles_s().get("mean", 0.0)
        return HistogramMetricFamily(
            "denoscope_latency_seconds",
            "Camera to denoised frame, without the first frames, which wait for the calibration.",
            buckets=[*buckets, ("+Inf", float(total))],
            sum_value=mean_s * total,
        )


class MetricsServer:
    """Serves ``http://HOST:PORT/metrics`` from separate threads until it is closed.

    Parameters
    ----------
    address
        As `metrics_address` gives it; port 0 for any that is free.

    Raises
    ------
    InvalidInput
        When prometheus-client is not installed, or the port is taken.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        require("prometheus_client", extra="metrics", purpose="`metrics`")
        from prometheus_client import CollectorRegistry, start_http_server

        # A separate registry: the default one tells about the process, and others may use it.
        self._registry = CollectorRegistry()
        host, port = address
        try:
            self._server, self._thread = start_http_server(port, host, self._registry)
        except OSError as error:
            raise InvalidInput(
                f"`metrics` {port}: the port cannot be opened ({one_line(error)}); give another one."
            ) from error
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._server.server_port}/metrics"

    def serve(self, gauges: Gauges) -> None:
        """Answer scrapes with these from now on."""
        collector: Any = gauges  # it need not inherit
        self._registry.register(collector)

    def close(self) -> None:
        """End the server and wait for it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
