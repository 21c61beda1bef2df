"""A session's numbers, read over real HTTP."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest

from denoscope.acquisition import make_settings
from denoscope.acquisition.lane.latency import LatencyHistogram
from denoscope.acquisition.session.recording.metrics import Gauges, MetricsServer, metrics_address
from denoscope.runtime import InvalidInput
from support.plain_results import live

from .conftest import Run
from .test_control import Steady, frames_of

pytest.importorskip("prometheus_client", reason="needs the extra 'metrics'")


def scrape(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[f"denoscope_{name}", tuple(sorted(labels.items()))]


@pytest.mark.parametrize("text", ["0.0.0.0:9123", "192.168.0.7:9123", "[::]:9123", "example.org:9123"])
def test_other_computers_are_kept_out(text: str) -> None:
    with pytest.raises(InvalidInput, match="can be reached from other computers"):
        metrics_address(text)


@pytest.mark.parametrize("text", ["", "http", "70000", "-1", "127.0.0.1", "127.0.0.1:x"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no port"):
        metrics_address(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9123", ("127.0.0.1", 9123)),
        ("localhost:1", ("127.0.0.1", 1)),
        ("127.0.0.2:80", ("127.0.0.2", 80)),
        ("[::1]:9123", ("::1", 9123)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert metrics_address(text) == address


def test_a_port_that_is_taken() -> None:
    first = MetricsServer(("127.0.0.1", 0))
    try:
        port = int(first.url.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(InvalidInput, match=rf"`metrics` {port}: the port cannot be opened"):
            MetricsServer(("127.0.0.1", port))
    finally:
        first.close()


def test_the_histogram_of_latencies() -> None:
    latency = LatencyHistogram()
    for seconds in (0.0015, 0.03, 0.03, 0.7, 30.0):
        latency.add(seconds)
    gauges = Gauges(latency, late_s=0.5, queues=dict, free_bytes=lambda: 7, info={"bundle": 'a"b\n'})
    server = MetricsServer(("127.0.0.1", 0))
    try:
        server.serve(gauges)
        found = scrape(server.url)
    finally:
        server.close()
    below = {
        edge: value(found, "latency_seconds_bucket", le=edge) for edge in ("0.001", "0.002", "0.05", "1.0")
    }
    assert below == {"0.001": 0, "0.002": 1, "0.05": 3, "1.0": 4}
    assert value(found, "latency_seconds_bucket", le="+Inf") == value(found, "latency_seconds_count") == 5
    assert value(found, "latency_seconds_sum") == pytest.approx(30.7615)
    assert value(found, "disk_free_bytes") == 7
    assert value(found, "session_info", bundle='a"b\n') == 1
    with pytest.raises(OSError, match="refused"):
        scrape(server.url)


def test_a_running_session_is_scraped(bundle: Path, tmp_path: Path) -> None:
    seen: list[dict[Any, float]] = []
    urls: list[str] = []

    def look() -> None:
        import json
        import time

        deadline_s = time.monotonic() + 250
        log = tmp_path / "run" / "log.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        urls.extend(line["url"] for line in lines if line["event"] == "metrics")
        while not seen or value(seen[-1], "frames_received_total") < 30:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
            found = scrape(urls[0])
            if ("denoscope_frames_received_total", ()) in found:
                seen.append(found)

    settings = make_settings(
        core="demo",
        output=tmp_path / "run",
        bundle=str(bundle),
        picture=False,
        metrics="0",
        lag_s=60,
        denoiser="thread",
    )
    report = live(settings, source=Steady(frames_of(40), {30: look}))
    found = seen[-1]
    assert value(found, "frames_received_total") == 30
    assert value(found, "frames_raw_written_total") <= 30
    assert value(found, "frames_denoised_total") <= 30
    assert value(found, "state", denoscope_state="recording") == 1
    assert value(found, "state", denoscope_state="paused") == 0
    assert value(found, "degraded") == 0
    assert value(found, "queue_limit_frames", queue="denoise") == 64
    assert value(found, "disk_free_bytes") > 0
    assert value(found, "frames_late_total") == 0
    assert report["frames"]["written_raw"] == 40
    with pytest.raises(OSError, match="refused"):
        scrape(urls[0])


def test_the_shell_refuses_an_open_port(denoscope: Run, movie: Path, bundle: Path, tmp_path: Path) -> None:
    words = ["live", "--core", f"replay:{movie}", "--bundle", bundle, "--output", tmp_path / "run"]
    done = denoscope(*words, "--metrics", "0.0.0.0:9123")
    assert done.returncode == 2
    assert "can be reached from other computers" in done.stderr
    assert not (tmp_path / "run").exists()
