"""Addresses of remotes: the file system behind an fsspec URL, and URLs without what nobody may read."""

import re
from typing import TYPE_CHECKING

from ct_pipeline.settings.errors import UserError, printable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

DRIVERS = {
    **dict.fromkeys(("s3", "s3a"), 'pip install "ct-pipeline[s3]"'),
    **dict.fromkeys(("gs", "gcs"), "pip install gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), "pip install adlfs"),
}


def open_url(url: str) -> tuple["AbstractFileSystem", str]:
    """The file system of an fsspec URL and the folder in it; nothing is asked of it yet.

    Credentials are what its driver finds in the environment: AWS_ACCESS_KEY_ID, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS ...

    Raises:
        UserError: the URL has no known scheme, or its driver is not installed.
    """
    import fsspec

    name = without_credentials(url)
    scheme = url.partition("://")[0] if "://" in url else ""
    if not scheme:
        raise UserError(
            f"CT_PIPELINE_REMOTE: found {name}; allowed: an address such as s3://bucket/prefix or file:///shared"
        )
    local = {"auto_mkdir": True} if scheme in ("file", "local") else {}
    try:
        return fsspec.url_to_fs(url, use_listings_cache=False, **local)
    except ImportError as error:
        driver = DRIVERS.get(scheme, f"pip install its fsspec driver ({printable(error)})")
        raise UserError(f"{name}: the driver of {scheme}:// is not installed: {driver}") from error
    except ValueError as error:
        told = printable(without_credentials(str(error)))
        raise UserError(
            f"{name}: {told}; CT_PIPELINE_REMOTE takes s3://, gs://, abfs://, file:// and what else fsspec knows"
        ) from error


def without_credentials(text: str) -> str:
    """A text whose URLs have neither user and password nor a query."""
    return re.sub(r"(?<=://)[^/\s]*@", "", re.sub(r"(://[^\s?#]+)[?#]\S*", r"\1", text))
