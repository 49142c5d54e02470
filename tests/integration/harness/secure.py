"""A broker listener with TLS and a password (PLAIN or SCRAM), and the client settings that it takes."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "worker", "geheim-Passw0rt"


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, and a server certificate of it for 127.0.0.1."""

    certificate: Path  # PEM, what clients trust
    keystore: Path  # PEM, the server's key and certificate, as Kafka reads them


def make_authority(folder):
    folder.mkdir(parents=True)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    server, server_key = folder / "server.pem", folder / "server.key"
    _openssl("req", "-x509", *curve, "-subj", "/CN=test authority", "-keyout", ca_key, "-out", ca)
    request = ("-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1")
    issuer = ("-CA", ca, "-CAkey", ca_key)
    _openssl("req", "-x509", *curve, *issuer, *request, "-keyout", server_key, "-out", server)
    keystore = folder / "keystore.pem"
    keystore.write_text(server_key.read_text() + server.read_text() + ca.read_text())
    return Authority(ca, keystore)


def broker_properties(authority):
    """Server properties for a listener named SECURE."""
    security = "org.apache.kafka.common.security"
    scram = f"{security}.scram.ScramLoginModule required;"
    plain = f'{security}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    return "\n".join(
        [
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={authority.keystore}",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
            f"listener.name.secure.scram-sha-512.sasl.jaas.config={scram}",
            f"listener.name.secure.plain.sasl.jaas.config={plain}",
        ]
    )


def client_properties(authority, password=PASSWORD, mechanism="PLAIN"):
    """librdkafka properties, for --kafka or, by as_environment, for the environment."""
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": USER,
        "sasl.password": password,
        "ssl.ca.location": str(authority.certificate),
    }


def as_flags(properties):
    return [f"--kafka={name}={value}" for name, value in properties.items()]


def as_environment(properties):
    return {
        "ONNXFERRY_KAFKA_" + name.upper().replace(".", "_"): value
        for name, value in properties.items()
    }


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
