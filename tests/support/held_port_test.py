#!/usr/bin/env python3
"""usage: held_port_test.py: a port that is held is nobody else's, refuses connections, and is a server's that wants it."""

import errno
import http.server
import socket
import sys

from harness import held_port

MANY = 2000


def check(what, good):
    if not good:
        print(f"FAIL: {what}")
        sys.exit(1)


def refused(port):
    """What a connection to it comes to; None: somebody took it."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as why:
        return why.errno
    return None


def takes(port):
    """Whether somebody who wants this one, and does not share, gets it."""
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError as why:
            check(f"bind: {why}", why.errno == errno.EADDRINUSE)
            return False
        return True


ports = [held_port() for _ in range(8)]
check("each is another one", len(set(ports)) == len(ports))
for port in ports:
    check("nobody takes it", not takes(port))
    check("connections are refused", refused(port) == errno.ECONNREFUSED)
# Whoever asks for any port gets another one, whether or not he shares.
others = []
for i in range(MANY):
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, i % 2)
    other.bind(("127.0.0.1", 0))
    check("the kernel gives it to somebody else", other.getsockname()[1] not in ports)
    if i % 100 == 0:
        others.append(other)
    else:
        other.close()
# HTTPServer takes a number, as the servers of the tests do.
server = http.server.HTTPServer(("127.0.0.1", ports[0]), http.server.BaseHTTPRequestHandler)
server.timeout = 20
with socket.create_connection(("127.0.0.1", ports[0]), timeout=20) as client:
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    server.handle_request()
    check("a server that wants it has it", client.recv(100).startswith(b"HTTP/1.0 501"))
server.server_close()
check("it is still held when the server has gone", not takes(ports[0]))
print("ok")
