"""Receivers of OTLP for tests: real sockets, real protobuf, and what a broken one does."""

from __future__ import annotations

import gzip
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

REQUESTS: dict[str, Callable[[], Any]] = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
}


class Received(NamedTuple):
    """One request as it arrived."""

    signal: str
    headers: dict[str, str]
    """Names in lower case; over grpc the metadata."""
    message: Any


class Receiver:
    """What arrived, whatever it came over."""

    endpoint: str

    def __init__(self) -> None:
        self.received: list[Received] = []

    def of(self, signal: str) -> list[Received]:
        return [each for each in self.received if each.signal == signal]

    def spans(self) -> list[Any]:
        return [
            span
            for each in self.of("traces")
            for resource in each.message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def names(self) -> list[str]:
        """Names of the spans."""
        return [span.name for span in self.spans()]

    def points(self, metric: str) -> list[tuple[Any, Any]]:
        """Resource and data point of every export of one sum or histogram."""
        return [
            (resource.resource, point)
            for each in self.of("metrics")
            for resource in each.message.resource_metrics
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in getattr(found, found.WhichOneof("data")).data_points
        ]

    def events(self) -> list[Any]:
        return [
            record
            for each in self.of("logs")
            for resource in each.message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def wait_for(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Return as soon as *condition* holds; fail after *timeout* seconds."""
        deadline = monotonic() + timeout
        while not condition():
            assert monotonic() < deadline, f"not in time; arrived: {self.received}"
            sleep(0.01)


class _Server(ThreadingHTTPServer):
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        if self.tls is None:
            return plain, address
        try:
            plain.getpeername()
        except OSError:  # it has gone already: `ssl` would leave a socket open
            plain.close()
            raise
        # No handshake while accepting: a refusal would leave a socket too.
        secure = self.tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        return secure, address

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that refuse our certificate are a test."""


class HttpReceiver(Receiver):
    """OTLP over http/protobuf, or https.

    Args:
        status: What every request is answered with.
        certificate: Certificate and key files: serve https.
        body: What every request is answered with.
    """

    def __init__(
        self,
        status: int = 200,
        certificate: tuple[Path, Path] | None = None,
        body: Callable[[dict[str, str]], bytes] = lambda headers: b"",
    ) -> None:
        super().__init__()
        self.status = status
        self.body = body
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            self._server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._server.tls.load_cert_chain(*certificate)
        self.endpoint = f"{scheme}://localhost:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> HttpReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                path = urlsplit(self.path).path  # a proxy is asked with the whole address
                signal = path.removeprefix("/v1/")
                message = REQUESTS[signal]()
                message.ParseFromString(body)
                receiver.received.append(Received(signal, headers, message))
                answer = receiver.body(headers)
                self.send_response(receiver.status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


class GrpcReceiver(Receiver):
    """OTLP over grpc.

    Args:
        certificate: Certificate and key files: take TLS only.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        import grpc

        super().__init__()
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool)
        for signal, (service, answer) in _SERVICES.items():
            handler = grpc.unary_unary_rpc_method_handler(
                self._receive(signal, answer),
                request_deserializer=REQUESTS[signal]().FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            generic = grpc.method_handlers_generic_handler(service, {"Export": handler})
            self._server.add_generic_rpc_handlers((generic,))
        if certificate is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
            self.endpoint = f"http://localhost:{port}"
        else:
            public, key = (file.read_bytes() for file in certificate)
            credentials = grpc.ssl_server_credentials([(key, public)])
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
            self.endpoint = f"https://localhost:{port}"

    def __enter__(self) -> GrpcReceiver:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
        self._pool.shutdown()

    def _receive(self, signal: str, answer: Callable[[], Any]) -> Callable[[Any, Any], Any]:
        def receive(message: Any, context: Any) -> Any:
            headers = dict(context.invocation_metadata())
            self.received.append(Received(signal, headers, message))
            return answer()

        return receive


_SERVICES = {
    "traces": (
        "opentelemetry.proto.collector.trace.v1.TraceService",
        trace_service_pb2.ExportTraceServiceResponse,
    ),
    "metrics": (
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        metrics_service_pb2.ExportMetricsServiceResponse,
    ),
    "logs": (
        "opentelemetry.proto.collector.logs.v1.LogsService",
        logs_service_pb2.ExportLogsServiceResponse,
    ),
}


def closed_endpoint() -> str:
    """Where nobody listens: connections are refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Endpoint of one that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def self_signed(directory: Path) -> tuple[Path, Path]:
    """Files of a fresh certificate for localhost, and of its key."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def flushed(pipeline: Any) -> bool:
    """Whether a flush delivers everything.

    Losses are counted for the process: an exporter of an earlier test that gives up meanwhile
    would be taken for this one's, so it is asked again.
    """
    return any(pipeline.flush(5) for _ in range(3))
