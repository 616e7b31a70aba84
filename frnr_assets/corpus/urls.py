"""URLs of sources: the tables know them without their secrets, which stay in the manifests."""

import hashlib
import re
from collections.abc import Container

from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.manifests.entries import Entry, read_dataset
from frnr_assets.words import public_url

_MARK = re.compile(r"#sha256:[0-9a-f]{12}$")


def known_as(url: str) -> str:
    """Return what the tables call a URL: itself, or what is public of it, and a hash that tells it from others."""
    public = public_url(url)
    if public == url or has_secret(url):
        return url
    digest = hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()
    return f"{public}#sha256:{digest[:12]}"


def has_secret(name: str) -> bool:
    """Tell whether what the tables call a URL is not the URL itself."""
    return _MARK.search(name) is not None


def urls_in(dataset: Dataset, names: Container[str]) -> dict[str, str]:
    """Return the URLs that a dataset's manifests have now, by what the tables call them, of those that are asked for.

    Raises:
        ManifestError: a manifest cannot be read.
    """
    entries = (listed.entry for listed in read_dataset(dataset))
    urls = (entry.url for entry in entries if isinstance(entry, Entry) and entry.url)
    return {name: url for name, url in ((known_as(url), url) for url in urls) if name in names}
