"""TLS of the command line's programs: contexts made of the files and versions that options name."""

from __future__ import annotations

import argparse
import ssl
from typing import Final

__all__ = ["StartError", "backend_context", "read_anew", "reason_of", "server_context"]

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class StartError(ValueError):
    """What keeps the proxy from starting, and what to change."""


def server_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS for clients, if there is a certificate. Raises `StartError`."""
    if options.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = VERSIONS[options.tls_min]
    if options.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    read_anew(options, context, None)
    return context


def backend_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS for backends, if there are any that want it. Raises `StartError`."""
    if not any(url.startswith("https:") for url in options.backend):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[options.backend_tls_min]
    if options.backend_ca is None:
        context.load_default_certs()
    read_anew(options, None, context)
    return context


def read_anew(
    options: argparse.Namespace, clients: ssl.SSLContext | None, backends: ssl.SSLContext | None
) -> None:
    """Have these contexts use what the files hold now. Raises `StartError`."""
    if clients is not None:
        show(clients, options.tls_certificate, options.tls_key, "--tls-certificate and --tls-key")
        trust(clients, options.client_ca, "--client-ca")
    if backends is not None:
        trust(backends, options.backend_ca, "--backend-ca")
        names = "--backend-certificate and --backend-key"
        show(backends, options.backend_certificate, options.backend_key, names)


def trust(context: ssl.SSLContext, path: str | None, option: str) -> None:
    """Trust the authorities in a file, if one is named."""
    if path is None:
        return
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise StartError(f"cannot use {path}: {reason_of(error)}; {option} wants a PEM file") from None


def show(context: ssl.SSLContext, certificate: str | None, key: str | None, options: str) -> None:
    """Show the certificate in a file as one's own, if one is named."""
    if certificate is None:
        return
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        files = " and ".join(filter(None, [certificate, key]))
        raise StartError(f"cannot use {files}: {reason_of(error)}; {options} want PEM files") from None


def reason_of(error: OSError) -> str:
    """Why, without the number in front."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in the expected form").lower().replace("_", " ")
    return error.strerror or str(error)
