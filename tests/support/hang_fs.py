"""A file system that hangs when it is told to, as a network mount does whose server is gone: files in memory, served over /dev/fuse by
a process of its own. Mounting needs root.

    with HangingFileSystem(directory) as mount:
        mount.hang("rename")       # from the next rename on nothing is answered
        mount.wait_hung()
        mount.go_on()

What hangs is each operation of the kernel on it, whoever asked for it and in whatever way."""
import ctypes
import errno
import os
import select
import signal
import struct
import time

LIBC = ctypes.CDLL(None, use_errno=True)
MS_NOSUID_NODEV = 6
MNT_DETACH = 2
HEADER = struct.Struct("=IIQQIIIHH")
ATTRIBUTES = struct.Struct("=6Q10I")
NAMES = {1: "lookup", 3: "getattr", 4: "setattr", 10: "unlink", 12: "rename", 14: "open", 15: "read", 16: "write", 18: "release", 20: "fsync",
         25: "flush", 27: "opendir", 28: "readdir", 30: "fsyncdir", 35: "create", 45: "rename"}
FORGET, INIT, INTERRUPT, DESTROY, BATCH_FORGET = 2, 26, 36, 38, 42
ROOT = 1
FOPEN_DIRECT_IO = 1  # each read comes here as well
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def exchange(one, other):
    """Two files change their names, in one step."""
    if LIBC.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Server:
    def __init__(self, fuse_fd, order_fd, told_fd):
        self.fuse_fd, self.order_fd, self.told_fd = fuse_fd, order_fd, told_fd
        self.names = {}          # of files in the one directory
        self.files = {}          # number: content
        self.born = time.time()
        self.next_number = ROOT + 1
        self.hangs_at = ""

    def attributes(self, number):
        directory = number == ROOT
        size = 0 if directory else len(self.files[number])
        seconds = int(self.born)
        return ATTRIBUTES.pack(number, size, (size + 511) // 512, seconds, seconds, seconds, 0, 0, 0, 0o40700 if directory else 0o100600,
                               2 if directory else 1, 0, 0, 0, 4096, 0)

    def entry(self, number):
        """Nothing is cached: each look comes here."""
        return struct.pack("=4Q2I", number, 0, 0, 0, 0, 0) + self.attributes(number)

    def attributes_out(self, number):
        return struct.pack("=QII", 0, 0, 0) + self.attributes(number)

    def answer(self, opcode, number, body):
        """The answer's bytes, or an errno."""
        name = NAMES.get(opcode)
        if opcode == INIT:
            return struct.pack("=4I2H2I2H", 7, 31, 131072, 0, 16, 12, 131072, 1, 32, 0) + bytes(32)
        if name == "lookup":
            found = self.names.get(body.split(b"\0")[0])
            return errno.ENOENT if found is None else self.entry(found)
        if name == "getattr":
            return self.attributes_out(number)
        if name == "setattr":
            valid, _, _, size = struct.unpack_from("=IIQQ", body)
            if valid & 8:
                content = self.files[number]
                del content[size:]
                content.extend(bytes(size - len(content)))
            return self.attributes_out(number)
        if name == "create":
            file_name = body[16:].split(b"\0")[0]
            created, self.next_number = self.next_number, self.next_number + 1
            self.names[file_name] = created
            self.files[created] = bytearray()
            return self.entry(created) + struct.pack("=QII", 0, FOPEN_DIRECT_IO, 0)
        if name in ("open", "opendir"):
            return struct.pack("=QII", 0, FOPEN_DIRECT_IO if name == "open" else 0, 0)
        if name == "read":
            _, offset, size = struct.unpack_from("=QQI", body)
            return bytes(self.files[number][offset:offset + size])
        if name == "write":
            _, offset, size = struct.unpack_from("=QQI", body)
            content = self.files[number]
            content.extend(bytes(max(0, offset - len(content))))
            content[offset:offset + size] = body[40:40 + size]
            return struct.pack("=II", size, 0)
        if name == "rename":
            flags = struct.unpack_from("=I", body, 8)[0] if opcode == 45 else 0
            old, new = body[16 if opcode == 45 else 8:].split(b"\0")[:2]
            if old not in self.names:
                return errno.ENOENT
            if flags == RENAME_EXCHANGE and new in self.names:
                self.names[old], self.names[new] = self.names[new], self.names[old]
                return b""
            if flags != 0:
                return errno.EINVAL  # as NFS: only with replacing
            self.names[new] = self.names.pop(old)
            return b""
        if name == "unlink":
            return b"" if self.names.pop(body.split(b"\0")[0], None) is not None else errno.ENOENT
        if name == "readdir":
            _, offset = struct.unpack_from("=QQ", body)
            out = b""
            for at, (file_name, file_number) in list(enumerate(self.names.items(), 1))[offset:]:
                entry = struct.pack("=QQII", file_number, at, len(file_name), 8) + file_name
                if len(out) + len(entry) + 8 > 4096:
                    break
                out += entry + bytes(-len(entry) % 8)
            return out
        if name in ("release", "fsync", "flush", "fsyncdir"):
            return b""
        return errno.ENOSYS

    def orders(self):
        """`=` and what to hang at; nothing behind it: go on. The last one counts."""
        order = os.read(self.order_fd, 64)
        if not order:
            os._exit(0)
        self.hangs_at = order.decode().rsplit("=", 1)[1]

    def serve(self):
        while True:
            ready, _, _ = select.select([self.fuse_fd, self.order_fd], [], [])
            if self.order_fd in ready:
                self.orders()
                continue
            try:
                request = os.read(self.fuse_fd, 1 << 20)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, opcode, unique, number = HEADER.unpack_from(request)[:4]
            if opcode in (FORGET, BATCH_FORGET, INTERRUPT, DESTROY):
                continue
            if self.hangs_at and self.hangs_at in ("anything", NAMES.get(opcode)):
                os.write(self.told_fd, b"h")
                while self.hangs_at:
                    self.orders()
            out = self.answer(opcode, number, request[HEADER.size:])
            failed = isinstance(out, int)
            head = struct.pack("=IiQ", 16 + (0 if failed else len(out)), -out if failed else 0, unique)
            try:
                os.write(self.fuse_fd, head if failed else head + out)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENODEV):
                    raise


class HangingFileSystem:
    def __init__(self, directory):
        self.directory = directory
        self.pid = 0

    def __enter__(self):
        """OSError where mounting is not allowed."""
        fuse_fd = os.open("/dev/fuse", os.O_RDWR)
        options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse_fd
        if LIBC.mount(b"sendring-hang", self.directory.encode(), b"fuse", MS_NOSUID_NODEV, options) != 0:
            number = ctypes.get_errno()
            os.close(fuse_fd)
            raise OSError(number, os.strerror(number))
        orders, self.order_fd = os.pipe()
        self.told_fd, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.order_fd)
                os.close(self.told_fd)
                Server(fuse_fd, orders, told).serve()
            finally:
                os._exit(0)
        for fd in (fuse_fd, orders, told):
            os.close(fd)
        return self

    def __exit__(self, kind, value, trace):
        """Whatever still hangs fails then."""
        os.close(self.order_fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        LIBC.umount2(self.directory.encode(), MNT_DETACH)
        os.close(self.told_fd)

    def hang(self, at):
        os.write(self.order_fd, b"=" + at.encode())

    def go_on(self):
        os.write(self.order_fd, b"=")

    def wait_hung(self, seconds=10):
        """False: nothing has asked for that."""
        if not select.select([self.told_fd], [], [], seconds)[0]:
            return False
        os.read(self.told_fd, 64)
        return True
