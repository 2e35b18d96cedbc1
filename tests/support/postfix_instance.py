"""A Postfix of one's own: the unpacked Debian package below .deps/postfix, run from one temporary directory.

Nothing of the host's is read or written: configuration, queue, data and log lie in the given directory, the only port is
a high one on loopback. Postfix needs root, and two accounts and a group that nothing else in it uses: no account is made,
old ones that every Debian has and nobody runs anything as are borrowed.
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from harness import held_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNPACKED = os.path.join(ROOT, ".deps", "postfix")
LIBRARY = os.path.join(UNPACKED, "usr", "lib", "postfix")
DAEMONS = os.path.join(LIBRARY, "sbin")
COMMANDS = os.path.join(UNPACKED, "usr", "sbin")
LIBRARY_PATH = "%s:%s" % (LIBRARY, os.path.join(UNPACKED, "usr", "lib", os.uname().machine + "-linux-gnu"))

# owner of the queue; group of postdrop; identity for deliveries to local programs, of which there are none.
OWNER, GROUP, OTHER = "news", "uucp", "games"

SERVICES = """\
%(port)d  inet n - n - - smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 1 1 qmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
lmtp      unix - - n - - lmtp
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


def environment():
    return dict(os.environ, LD_LIBRARY_PATH=LIBRARY_PATH, LC_ALL="C")


def command(name):
    return os.path.join(COMMANDS, name)


class Postfix:
    def __init__(self, directory, settings):
        """`settings`: lines for main.cf. The log is directory/mail.log."""
        self.directory = directory
        self.port = held_port()
        self.log = os.path.join(directory, "mail.log")
        self.config = os.path.join(directory, "etc")
        self.queue = os.path.join(directory, "spool")
        self.master = None
        os.chmod(directory, 0o755)  # its processes are several users
        for path in (self.config, self.queue, os.path.join(directory, "data")):
            os.mkdir(path, 0o755)
        shutil.chown(os.path.join(directory, "data"), OWNER)
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private",
                     "saved", "trace"):
            os.mkdir(os.path.join(self.queue, name), 0o700)
            shutil.chown(os.path.join(self.queue, name), OWNER)
        os.mkdir(os.path.join(self.queue, "pid"), 0o755)
        for name, mode in (("public", 0o2710), ("maildrop", 0o1730)):
            os.mkdir(os.path.join(self.queue, name))
            shutil.chown(os.path.join(self.queue, name), OWNER, GROUP)
            os.chmod(os.path.join(self.queue, name), mode)
        self.write("dynamicmaps.cf", "pcre postfix-pcre.so dict_pcre_open\n")
        self.write("master.cf", SERVICES % {"port": self.port})
        self.write("main.cf", """\
compatibility_level = 3.6
mail_owner = %(owner)s
setgid_group = %(group)s
default_privs = %(other)s
queue_directory = %(queue)s
data_directory = %(directory)s/data
command_directory = %(commands)s
daemon_directory = %(daemons)s
shlib_directory = %(library)s
meta_directory = %(config)s
import_environment = MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH=%(library_path)s
maillog_file = %(log)s
maillog_file_prefixes = %(directory)s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
local_transport = error:no local mail here
biff = no
notify_classes =
disable_dns_lookups = yes
smtp_host_lookup = native
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
enable_long_queue_ids = yes
%(settings)s
""" % {"owner": OWNER, "group": GROUP, "other": OTHER, "queue": self.queue, "directory": directory,
            "commands": COMMANDS, "daemons": DAEMONS, "library": LIBRARY, "config": self.config,
            "library_path": LIBRARY_PATH, "log": self.log, "settings": settings})

    def write(self, name, text):
        with open(os.path.join(self.config, name), "w") as out:
            out.write(text)

    def start(self):
        self.output = open(os.path.join(self.directory, "master.log"), "wb")
        self.master = subprocess.Popen([os.path.join(DAEMONS, "master"), "-c", self.config, "-d"],
                                       env=dict(environment(), MAIL_CONFIG=self.config), stdin=subprocess.DEVNULL,
                                       stdout=self.output, stderr=self.output, start_new_session=True)
        end = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as client:
                    if client.recv(3) == b"220":
                        return
            except OSError:
                pass
            if self.master.poll() is not None or time.monotonic() > end:
                raise RuntimeError("Postfix did not start: " + self.texts())
            time.sleep(0.1)

    def texts(self):
        text = ""
        for path in (os.path.join(self.directory, "master.log"), self.log):
            if os.path.exists(path):
                text += open(path, errors="replace").read()[-4000:]
        return text

    def rotate(self):
        """As `postfix logrotate` does: the old log gets another name, and the reloaded Postfix makes a new one."""
        os.rename(self.log, self.log + ".1")
        os.kill(self.master.pid, signal.SIGHUP)

    def stop(self):
        if self.master is None or self.master.poll() is not None:
            return
        os.kill(self.master.pid, signal.SIGTERM)
        try:
            self.master.wait(20)
        except subprocess.TimeoutExpired:
            os.kill(self.master.pid, signal.SIGKILL)
            self.master.wait()
        self.output.close()

    def queued(self):
        """Messages in the queue."""
        return sum(len(files) for name in ("incoming", "active", "deferred", "maildrop", "hold")
                   for _, _, files in os.walk(os.path.join(self.queue, name)))
