"""moto's server as AWS, where every call after the first three must be signed by a key it knows."""
import json
import os
import sys
import urllib.request

from harness import Failure, held_port, wait_for


class Moto:
    """The server, one user that may do everything, and clients in that user's name. Starts within a Stack."""

    def __init__(self, stack):
        self.port = held_port()
        self.endpoint = "http://127.0.0.1:%d" % self.port
        program = os.path.join(os.path.dirname(sys.executable), "moto_server")
        process = stack.start("moto", [program, "-H", "127.0.0.1", "-p", str(self.port)],
                              env={"INITIAL_NO_AUTH_ACTION_COUNT": "3", "PYTHONWARNINGS": "ignore"})

        def is_ready():
            if process.poll() is not None:
                raise Failure("moto ended:\n" + stack.log("moto"))
            try:
                return urllib.request.urlopen(self.endpoint + "/moto-api/", timeout=2).status == 200
            except OSError:
                return False

        wait_for("moto", is_ready, 60, 0.2)
        self.key = self.secret = "unknown"
        iam = self.client("iam")
        iam.create_user(UserName="mta")
        key = iam.create_access_key(UserName="mta")["AccessKey"]
        iam.put_user_policy(UserName="mta", PolicyName="all", PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}))
        self.key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]

    def client(self, service, secret=None, endpoint=None):
        import boto3
        from botocore.config import Config
        return boto3.client(service, endpoint_url=endpoint or self.endpoint, region_name="us-east-1",
                            aws_access_key_id=self.key, aws_secret_access_key=secret or self.secret,
                            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=300))

    def wrong_secret(self):
        return "not" + self.secret[3:]
