"""What stands before a store: asks for a credential or a tenant, strips a path, speaks TLS with a private CA."""

import datetime as dt
import ipaddress
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.monitoring.programs import QuietHandler


@dataclass
class Door:
    """One store's front. `wanted`: headers that must stand there word for word, and what is said without them."""

    upstream: str
    prefix: str = ""
    wanted: Mapping[str, str] = field(default_factory=dict)
    says: str = "Unauthorized"
    tls: ssl.SSLContext | None = None
    encodings: list[str] = field(default_factory=list)
    """`Content-Encoding` of each answer that went through."""


@contextmanager
def standing_before(door: Door) -> Iterator[str]:
    """Serve it; gives the address, with its path."""

    class Handler(QuietHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if any(self.headers.get(name) != value for name, value in door.wanted.items()):
                self.answer(401, door.says.encode())
            elif not self.path.startswith(f"{door.prefix}/"):
                self.answer(404, b"404 page not found")
            else:
                self._forward(body)

        def _forward(self, body: bytes) -> None:
            kept = ("Content-Type", "Accept", "Accept-Encoding")
            headers = {name: self.headers[name] for name in kept if name in self.headers}
            url = f"http://{door.upstream}{self.path.removeprefix(door.prefix)}"
            request = urllib.request.Request(url, data=body, headers=headers)
            try:
                answer = urllib.request.urlopen(request, timeout=10)  # noqa: S310 - loopback
            except urllib.error.HTTPError as error:
                self.answer(error.code, error.read())
                return
            with answer:
                content = answer.read()
                encoding = answer.headers.get("Content-Encoding", "")
            door.encodings.append(encoding)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if door.tls is not None:
        server.socket = door.tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http{'s' if door.tls else ''}://127.0.0.1:{server.server_address[1]}{door.prefix}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Authority:
    """A CA that nobody knows, and one certificate of it for 127.0.0.1."""

    ca: str
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def authority(folder: Path) -> Authority:
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of the tests")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    now = dt.datetime.now(dt.UTC)
    usual = (
        x509.CertificateBuilder()
        .issuer_name(ca_name)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
    )
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        usual.subject_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(ca_id, critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(ca_key, hashes.SHA256())
    )  # fmt: skip
    certificate = (
        usual.subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "store.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "store.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Authority(ca.public_bytes(pem).decode(), folder / "store.pem", folder / "store.key")
