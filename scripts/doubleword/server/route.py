"""The way to a server: its address, and what the environment says about proxies and certificates.

A route is a URL's server, the proxy before it, if any, and the bundle: the file of certificates that are trusted.
The proxy is that of HTTPS_PROXY or ALL_PROXY, unless NO_PROXY names the server; upper and lower case are one, and
nothing on this machine is reached through a proxy. The bundle is that of the first of `BUNDLES` that is set, else the
one that comes with the package certifi; the system's own certificates are never read.

Promises: a setting that cannot work is told before anything is sent, by its variable; what a network did is told with
the server's or the proxy's URL, the variable it came from and the reason; a proxy's password is never told.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from doubleword.failure import Exit, plain
from doubleword.quick_msgspec import Struct
from doubleword.server.errors import Advice, ApiError, error_from_exception, innermost

if TYPE_CHECKING:
    from urllib3.util import Url

# In this order; requests itself reads the first two, OpenSSL the third.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
# What OpenSSL says of a certificate (x509_vfy.h): expired, not valid yet; for another host, for another address.
OUT_OF_TIME = {10: "has expired", 9: "is not valid yet"}
OTHER_NAME = (62, 64)
LOOK_AT_URL = "check DOUBLEWORD_BASE_URL or --base-url"


class Proxy(Struct, frozen=True, dict=True):
    """A proxy's `url` as it is set, which may hold a password, and what set it: a variable, or the system."""

    url: str
    setting: str

    @cached_property
    def parts(self) -> Url | None:
        """The parts of the URL, None where it is none; one without a scheme is http, as requests reads it."""
        from urllib3.exceptions import LocationParseError
        from urllib3.util import parse_url

        try:
            parts = parse_url(self.url if "://" in self.url else f"http://{self.url}")
        except (LocationParseError, ValueError):
            return None
        return parts if parts.host and parts.scheme in ("http", "https", *SOCKS) else None

    @property
    def host(self) -> str:
        """Where it listens; empty where the URL is none."""
        return (self.parts.host or "").strip("[]") if self.parts else ""

    def __str__(self) -> str:
        """For a message: the URL without user, password and path, and what set it."""
        if self.parts is None:
            return f"the proxy of {self.setting}"
        return f"the proxy {plain(f'{self.parts.scheme}://{self.parts.netloc}', 120)} ({self.setting})"


class Bundle(Struct, frozen=True):
    """The file (or the folder, as `c_rehash` makes it) of certificates at `path`, and the variable that names it."""

    path: str
    variable: str


class Route(Struct, frozen=True):
    """How the server at `server`, scheme://host:port, is reached."""

    server: str
    proxy: Proxy | None = None
    bundle: Bundle | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What requests is told about it; verification is always on."""
        scheme = urlsplit(self.server).scheme
        return {
            "proxies": {scheme: self.proxy.url} if self.proxy else {},
            "verify": self.bundle.path if self.bundle else True,
        }

    def require_usable(self) -> None:
        """Raise ApiError where the settings cannot work, whatever the network does."""
        if self.proxy is not None:
            _require_usable_proxy(self.proxy)
        if self.bundle is not None:
            _require_certificates(self.bundle)

    def error(self, error: BaseException) -> ApiError:
        """What kept a request from being made or answered, in words that name the place to look at."""
        import requests

        inner = innermost(error)
        if isinstance(inner, ApiError):
            return inner
        if _is_untrusted(inner):
            return self._untrusted(inner, of_proxy=isinstance(error, requests.exceptions.ProxyError))
        if self.proxy is not None and isinstance(error, requests.exceptions.ProxyError):
            return self._proxy_failed(self.proxy, error, inner)
        if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
            return ApiError(None, f"{plain(self.server, 120)} is not a valid URL", sent=False, lasting=True)
        reason = _no_connection(error, inner)
        if not reason:
            ended = error_from_exception(error, self._way)
            if isinstance(inner, ssl.SSLError):
                ended.advice = _unreachable(f"{LOOK_AT_URL}: does the server speak https there? Then run this again")
            return ended
        here = is_loopback(self.proxy.host if self.proxy else urlsplit(self.server).hostname or "")
        return _unconnected(f"no connection to {self._way}: {reason}", self._hint(), here and "refused" in reason)

    @property
    def _way(self) -> str:
        return f"{self.server} through {self.proxy}" if self.proxy else self.server

    def _hint(self) -> str:
        if self.proxy is not None:
            return f"check {self.proxy.setting} and the network, then run the same command again; nothing is done twice"
        if is_loopback(urlsplit(self.server).hostname or ""):
            return f"start the server there, if none runs, or {LOOK_AT_URL}; then run the same command again"
        told = (
            "and the network (a company's may need HTTPS_PROXY); then run the same command again, nothing is done twice"
        )
        return f"{LOOK_AT_URL} {told}"

    def _proxy_failed(self, proxy: Proxy, error: BaseException, inner: BaseException) -> ApiError:
        """What the proxy did, or refused to do; of the answers to CONNECT only the status is told."""
        refusal = re.match(r"Tunnel connection failed: (\d{3})", str(inner))
        if refusal and refusal.group(1) == "407":
            known = proxy.parts is not None and proxy.parts.auth
            sentence = f"{proxy} {'does not take its' if known else 'asks for a'} user and password (407)"
            hint = f"put them into {proxy.setting} as http://USER:PASS@HOST:PORT, signs such as @ and / as %40 and %2F"
            return ApiError(None, sentence, sent=False, lasting=True, advice=_unreachable(hint))
        if refusal:
            sentence = f"{proxy} does not connect to {self.server} ({refusal.group(1)})"
            hint = f"ask who runs the proxy to let {self.server} through, or name its host in NO_PROXY"
            lasting = refusal.group(1).startswith("4") and refusal.group(1) not in ("408", "429")
            return ApiError(None, sentence, sent=False, lasting=lasting, advice=_unreachable(hint))
        if isinstance(inner, ssl.SSLError):
            sentence = f"{proxy} does not speak TLS ({plain(inner.reason or inner, 60)})"
            hint = f"most proxies are named with http://, also for https servers: correct {proxy.setting}"
            return ApiError(None, sentence, sent=False, lasting=True, advice=Advice(Exit.BAD_INPUT, "bad_proxy", hint))
        reason = _no_connection(error, inner)
        if reason:
            here = is_loopback(proxy.host) and "refused" in reason
            return _unconnected(f"no connection to {proxy}: {reason}", self._hint(), here)
        return error_from_exception(error, str(proxy))

    def _untrusted(self, inner: BaseException, of_proxy: bool) -> ApiError:
        """Whose certificate is not believed, and why: each reason has its own way out."""
        whose = f"the certificate of {self.proxy if of_proxy and self.proxy else self.server}"
        found = getattr(inner, "verify_code", None)
        if found in OUT_OF_TIME:
            sentence, hint = f"{whose} {OUT_OF_TIME[found]}", "its owner must renew it; or this machine's date is wrong"
        elif found in OTHER_NAME or not isinstance(inner, ssl.SSLCertVerificationError):
            at = self.proxy.setting if of_proxy and self.proxy else "DOUBLEWORD_BASE_URL or --base-url"
            sentence, hint = f"{whose} is for another name", f"check the host in {at}"
        else:
            told = plain(inner.verify_message, 80)
            by = f" by {self.bundle.variable} ({plain(self.bundle.path, 120)})" if self.bundle else ""
            sentence = f"{whose} cannot be verified{by}: {told}"
            hint = "a company's or your own: export REQUESTS_CA_BUNDLE=/path/corp.pem, a PEM file of its issuer"
            if self.bundle:
                hint = f"add the certificate of its issuer, as PEM, to the file of {self.bundle.variable}"
            hint += "; the system's certificates are not read"
        return ApiError(None, sentence, sent=False, lasting=True, advice=Advice(Exit.BAD_INPUT, "bad_server", hint))


def route_to(url: str) -> Route:
    """The route to the server of `url`, as the environment has it now."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    bundle = next((Bundle(os.environ[name], name) for name in BUNDLES if os.environ.get(name)), None)
    return Route(f"{parts.scheme}://{parts.netloc}", _proxy_for(url), bundle if secure else None)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what the key may be sent to is compared by these."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def is_safe(url: str) -> bool:
    """Whether the key may travel to `url`: https, or plain http that stays on this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    named = all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))  # else no name for a resolver
    if not host or not named or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether `host` is this very machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy_for(url: str) -> Proxy | None:
    """The proxy that requests would take for `url`, but none to this machine."""
    from requests.utils import get_environ_proxies, select_proxy

    parts = urlsplit(url)
    proxy = None if is_loopback(parts.hostname or "") else select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    names = [name for kind in (parts.scheme, "all") for name in (f"{kind}_proxy".upper(), f"{kind}_proxy")]
    return Proxy(proxy, next((name for name in names if os.environ.get(name) == proxy), "the system's settings"))


def _require_usable_proxy(proxy: Proxy) -> None:
    import importlib.util

    if proxy.parts is None:
        sentence = f"{proxy.setting} is not the URL of a proxy"
        hint = "its form is http://HOST:PORT or http://USER:PASS@HOST:PORT, signs such as @ and / as %40 and %2F"
        raise ApiError(None, sentence, sent=False, lasting=True, advice=Advice(Exit.BAD_INPUT, "bad_proxy", hint))
    if proxy.parts.scheme in SOCKS and importlib.util.find_spec("socks") is None:
        sentence = f"a SOCKS proxy, from {proxy.setting}, needs a package: pip install pysocks"
        hint = (
            f"{sys.executable} -m pip install pysocks; with uv, uv run --with pysocks SCRIPT; or unset {proxy.setting}"
        )
        advice = Advice(Exit.BAD_INPUT, "missing_package", hint)
        raise ApiError(None, sentence, sent=False, lasting=True, advice=advice)


def _require_certificates(bundle: Bundle) -> None:
    if Path(bundle.path).is_dir():
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(bundle.path)
    except FileNotFoundError:
        flaw = "is not there"
    except (ssl.SSLError, ValueError):
        flaw = "holds no valid certificates in PEM form"
    except OSError as error:
        flaw = f"cannot be read ({plain(error.strerror or error, 60)})"
    else:
        return
    sentence = f"{bundle.variable} gives no certificates: {plain(bundle.path, 200)} {flaw}"
    hint = f"correct it, or unset {bundle.variable}: then the certificates of the package certifi are used"
    advice = Advice(Exit.BAD_INPUT, "bad_certificates", hint)
    raise ApiError(None, sentence, sent=False, lasting=True, advice=advice)


def _is_untrusted(inner: BaseException) -> bool:
    from urllib3.util.ssl_match_hostname import CertificateError

    return isinstance(inner, (ssl.SSLCertVerificationError, CertificateError))


def _no_connection(error: BaseException, inner: BaseException) -> str:
    """Why no connection came about; empty for all that may have gone wrong after a request was sent."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

    if isinstance(inner, NameResolutionError):
        return "the name cannot be resolved"
    if isinstance(inner, (NewConnectionError, ConnectionRefusedError)):
        told = str(inner).rpartition("Failed to establish a new connection: ")[2]
        return "connection refused" if "refused" in told.lower() else plain(re.sub(r"^\[.*?\] ", "", told), 120)
    if isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(inner, ConnectTimeoutError):
        return "timed out"
    return ""


def _unconnected(sentence: str, hint: str, at_once: bool) -> ApiError:
    return ApiError(None, sentence, sent=False, at_once=at_once, advice=_unreachable(hint))


def _unreachable(hint: str) -> Advice:
    return Advice(Exit.UNREACHABLE, "server_unreachable", hint)
