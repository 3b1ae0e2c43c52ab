"""Somebody is told, and a run never waits for that."""

import http.server
import json
import os
import threading
import time

import pytest
from small_bench import replace, wait_for

from batterylab.bench.benchfile import Notify
from batterylab.bench.notify import notify
from batterylab.bench.process import run_here
from batterylab.errors import EnvironmentFailedError


def listening(tmp_path):
    """Return a command that writes what it is told into a file, and that file."""
    heard = tmp_path / "heard.json"
    return ["sh", "-c", f"cat > {heard}.part && mv {heard}.part {heard}"], heard


def test_the_end_of_a_run_is_told(bench_of, tmp_path):
    bench = bench_of(poll_s=30)
    command, heard = listening(tmp_path)
    text = f"notify: {json.dumps({'command': command})}\nclock:"
    replace(bench.study.bench_path, "clock:", text)
    run_here(bench.study, "ann")
    wait_for(heard.exists)
    told = json.loads(heard.read_text())
    assert told["event"] == "end"
    assert (told["message"], told["exit_code"]) == ("2 recordings", 0)


def test_a_lost_instrument_is_an_alarm(bench_of, tmp_path):
    bench = bench_of(poll_s=10)
    command, heard = listening(tmp_path)
    text = f"notify: {json.dumps({'command': command, 'on': ['alarm']})}\nclock:"
    replace(bench.study.bench_path, "clock:", text)

    def look(data):
        if data.get("bench_time_s", 0) > 100 and "chamber" in bench.servers:
            bench.kill("chamber")

    with pytest.raises(EnvironmentFailedError):
        run_here(bench.study, "ann", look)
    wait_for(heard.exists)
    assert json.loads(heard.read_text())["event"] == "alarm"


def test_a_webhook_gets_the_same():
    told = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Ear)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    to = Notify(webhook=f"http://127.0.0.1:{server.server_address[1]}/")
    assert notify(to, "stop", "s", "stopped by the operator")
    wait_for(lambda: told)
    server.shutdown()
    server.server_close()
    assert told[0] == {"event": "stop", "study": "s", "message": "stopped by the operator"}


def test_what_hangs_or_does_not_exist_does_no_harm(tmp_path):
    went = tmp_path / "went"
    hanging = Notify(command=["sh", "-c", f"echo $$ > {went}; exec sleep 60"])
    began = time.thread_time()
    assert notify(hanging, "end", "s", "x" * 1000)
    assert notify(Notify(command=["/no/such/thing"]), "end", "s", "done")
    assert not notify(Notify(on=("alarm",)), "end", "s", "done")
    assert not notify(None, "alarm", "s", "done")
    assert time.thread_time() - began < 5  # it started processes and waited for none
    wait_for(lambda: went.exists() and went.read_text().strip())
    os.kill(int(went.read_text()), 15)
