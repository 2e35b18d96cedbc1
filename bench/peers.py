#!/usr/bin/env python3
"""What do Fluent Bit and Vector take for the same events to the same endpoint?

Goal: CPU seconds per million events of each program, beside those of sendring's router and keeper, for the same events (of
loadgen, by the same seed; ids differ) to `sendring sink` over TLS, signatures checked, every event counted there by its id.
Method: one program after the other in each run, so that runs take turns. All three keep what they have taken on the disk
(journal; filesystem chunks; a disk buffer), none waits for the disk, none packs or compresses. Fluent Bit and Vector get the
events as msgpack over their forward protocol, 350 in a message, at most 16 messages without an acknowledgement: the cheapest
way into both. What is packed before is not timed, nor is who sends. Floor of theirs: sendring's own value of the same run.

Their programs are found on PATH, or named by FLUENT_BIT and VECTOR. One that is not there is not measured, and said to be so.
Their configurations are below. Fluent Bit's is the one that 5.1.1 was measured with for README.md, with its input on TCP;
Vector's has been written from its manual.

Not measured: routing, counting, outages; more than one worker."""

import json
import os
import shutil
import socket
import struct
import subprocess
import time

import running
from running import harness, put

NAME = "peers"
STREAM = "mail-events"
CHUNK_EVENTS = 350
CHUNKS_OUT_MAX = 16

FLUENT_BIT_CONFIGURATION = """\
service:
  flush: 0.25
  grace: 2
  log_level: warn
  storage.path: {directory}/storage
  storage.sync: normal
  storage.checksum: off
  storage.max_chunks_up: 128
pipeline:
  inputs:
    - name: forward
      listen: 127.0.0.1
      port: {port}
      buffer_chunk_size: 1M
      buffer_max_size: 6M
      storage.type: filesystem
  outputs:
    - name: kinesis_firehose
      match: '*'
      region: us-east-1
      delivery_stream: {stream}
      endpoint: {sink_host}
      port: {sink_port}
      tls.ca_file: {ca}
      workers: 1
      retry_limit: no_limits
"""
VECTOR_CONFIGURATION = """\
data_dir: {directory}/data
sources:
  events:
    type: fluent
    address: 127.0.0.1:{port}
sinks:
  firehose:
    type: aws_kinesis_firehose
    inputs: [events]
    stream_name: {stream}
    region: us-east-1
    endpoint: https://{sink_host}:{sink_port}
    healthcheck: {{enabled: false}}
    encoding:
      codec: json
      except_fields: [host, tag, timestamp, source_type]
    batch: {{max_events: 500, max_bytes: 4000000, timeout_secs: 0.25}}
    buffer: {{type: disk, max_size: 1073741824, when_full: block}}
    tls: {{ca_file: {ca}}}
"""
# What it is called; the variable that names its program; the program; what it is started with.
PEERS = {
    "fluent_bit": ("Fluent Bit", "FLUENT_BIT", "fluent-bit", FLUENT_BIT_CONFIGURATION, "-c"),
    "vector": ("Vector", "VECTOR", "vector", VECTOR_CONFIGURATION, "--config"),
}


def note(text):
    print(json.dumps({"bench": NAME, "note": text}), flush=True)


def find(peer):
    """The program, or None."""
    title, variable, program, _, _ = PEERS[peer]
    named = os.environ.get(variable)
    if named and not os.access(named, os.X_OK):
        raise harness.Failure(f"{variable}={named}: there is no program of that name")
    found = named or shutil.which(program)
    if not found:
        note(f"{title}: not on PATH: {program} (or {variable}=FILE names it): not measured")
        return None
    try:
        said = subprocess.run([found, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=10,
                              check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as why:
        raise harness.Failure(f"{found} --version: {why}") from why
    note(f"{title}: {found}: {(said.strip() or 'says no version').splitlines()[0]}")
    return found


# ---------------------------------------------------------------------------------------------- events


def pack(value):
    """msgpack of what JSON has."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else struct.pack(">Bq", 0xd3, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xcb, value)
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0xa0 + len(text)]) if len(text) < 32 else struct.pack(">BH", 0xda, len(text))) + text
    if isinstance(value, list):
        head = bytes([0x90 + len(value)]) if len(value) < 16 else struct.pack(">BH", 0xdc, len(value))
        return head + b"".join(map(pack, value))
    head = bytes([0x80 + len(value)]) if len(value) < 16 else struct.pack(">BH", 0xde, len(value))
    return head + b"".join(pack(key) + pack(member) for key, member in value.items())


def make_messages(options, events):
    """The events as messages of the forward protocol: what loadgen publishes, as the router writes it."""
    with harness.Stack(options.build, name="bench-peers-events") as stack:
        stack.write_configuration(file_destination=True, firehose=False)
        stack.start_router()
        stack.loadgen("--events", str(events))
        stack.wait_drained(120)
        stack.stop("router")
        with open(stack.path("events.ndjson"), encoding="utf-8") as lines:
            packed = [b"\x92" + pack(int(time.time())) + pack(json.loads(line)) for line in lines]
    if len(packed) != events:
        raise harness.Failure(f"{len(packed)} events were written, not {events}")
    messages = []
    for at in range(0, events, CHUNK_EVENTS):
        entries = packed[at:at + CHUNK_EVENTS]
        data = b"".join(entries)
        messages.append(b"\x93" + pack("events") + struct.pack(">BI", 0xc6, len(data)) + data +
                        pack({"size": len(entries), "chunk": f"chunk-{at:010d}"}))
    return messages


def send(messages, port):
    """All of them, waiting for acknowledgements."""
    sent = acknowledged = 0
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        tail = b""
        while acknowledged < len(messages):
            if sent < len(messages) and sent - acknowledged < CHUNKS_OUT_MAX:
                connection.sendall(messages[sent])
                sent += 1
                continue
            got = connection.recv(65536)
            if not got:
                raise harness.Failure("it closed the connection that sends it events")
            data = tail + got
            acknowledged += data.count(b"\xa3ack")
            tail = data[-3:]


# ---------------------------------------------------------------------------------------------- one after the other


def wait_stored(stack, events, alive):
    def done():
        if not alive():
            raise harness.Failure("it ended")
        return stack.sink_events() >= events

    harness.wait_for(f"{events} events to be stored", done, seconds=300, interval=0.02)


def measured(stack, pids, events, work, alive):
    """(CPU s per million, events a second, MiB at most) of `work` until the sink has all events."""
    before, begun = running.cpu_s(*pids), time.monotonic()
    work()
    wait_stored(stack, events, alive)
    passed, used = time.monotonic() - begun, running.cpu_s(*pids) - before
    report = stack.sink_report()
    if report["distinct"] != events or report["unexpected"] != 0:
        raise harness.Failure(f"the sink has {report['distinct']} events, not {events}; {report['unexpected']} unknown ones")
    return used / events * 1e6, events / passed, harness.status_kib(pids[0], "VmHWM") / 1024


def measure_ours(options, events):
    with harness.Stack(options.build, tls=True, name="bench-peers") as stack:
        stack.start_sink()
        stack.write_configuration()
        with open(stack.sets_file, encoding="utf-8") as sets:
            text = sets.read()
        with open(stack.sets_file, "w", encoding="utf-8") as sets:
            sets.write(text.replace(harness.STREAM_ARN + "\n", harness.STREAM_ARN + "\n      Sendring: {Packing: none}\n"))
        stack.start_router()
        pids = running.own_pids(stack)
        return measured(stack, pids, events, lambda: stack.loadgen("--events", str(events)),
                        lambda: stack.processes["router"].poll() is None)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def measure_peer(options, peer, program, messages, events):
    title, _, _, configuration, flag = PEERS[peer]
    with harness.Stack(options.build, tls=True, name="bench-peers") as stack:
        stack.start_sink()
        port, (host, sink_port) = harness.held_port(), stack.sink_address.rsplit(":", 1)
        os.mkdir(stack.path("data"))
        with open(stack.path(peer + ".yaml"), "w", encoding="utf-8") as out:
            out.write(configuration.format(directory=stack.directory, port=port, stream=STREAM, sink_host=host,
                                           sink_port=sink_port, ca=stack.path("tls", "ca.pem")))
        process = stack.start(peer, [program, flag, stack.path(peer + ".yaml")])

        def alive():
            return process.poll() is None

        try:
            harness.wait_for(f"{title} to listen", lambda: not alive() or listens(port), seconds=30)
            if not alive():
                raise harness.Failure(f"it ended with status {process.returncode}")
            return measured(stack, [process.pid], events, lambda: send(messages, port), alive)
        except (harness.Failure, OSError) as why:
            raise harness.Failure(f"{title}: {why}\n{stack.log(peer)}") from why


def put_all(who, values, ours=None):
    cpu, rate, peak = values
    put(NAME, f"cpu_s_per_million_{who}", cpu, "s/1e6 events", ours and ours[0])
    put(NAME, f"events_per_s_{who}", rate, "events/s", ours and ours[1], rate=True)
    put(NAME, f"peak_rss_{who}", peak, "MiB", ours and ours[2])


def main(options):
    events = 3500 if options.smoke else 350000
    found = {peer: find(peer) for peer in PEERS}
    if not any(found.values()):
        return
    messages = make_messages(options, events)
    ours = measure_ours(options, events)
    put_all("sendring", ours)
    for peer, program in found.items():
        if program:
            put_all(peer, measure_peer(options, peer, program, messages, events), ours)


running.run(main, NAME, __doc__)
