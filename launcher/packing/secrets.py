"""Nothing like a credential leaves in a bundle."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from launcher.errors import SecretFound

FORBIDDEN_NAMES = re.compile(
    r"(\.env(\..+)?|kaggle\.json|access_token(\.txt)?|credentials\.json|\.netrc|\.pypirc|id_[a-z0-9]+|.*\.(pem|key|p12|pfx))",
    re.IGNORECASE,
)
KAGGLE_TOKEN = re.compile(r"KGAT_[A-Za-z0-9_-]{16,}")
KAGGLE_TOKEN_BYTES = re.compile(KAGGLE_TOKEN.pattern.encode())
KAGGLE_KEY = re.compile(r"""["']?key["']?\s*[:=]\s*["'][0-9a-f]{32}["']""", re.IGNORECASE)
_ADDRESS = r"""[^\s"'<>]"""
OTHERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("Kaggle credential", re.compile(r"""kaggle_?key["']?\s*[:=]\s*["']?[0-9a-f]{32}\b""", re.IGNORECASE)),
    ("Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{30,}")),
    ("GitHub token", re.compile(r"\bgithub_pat_\w{30,}")),
    ("Google API key", re.compile(r"\bAIza[\w-]{35}")),
    ("API key", re.compile(r"\bsk-(?:ant|proj|svcacct|or)-[\w-]{20,}")),
    # An address that lets whoever has it write somewhere.
    ("webhook", re.compile(rf"https?://{_ADDRESS}*(?:webhook|hooks?[./]){_ADDRESS}*[\w-]{{20,}}", re.IGNORECASE)),
    ("webhook", re.compile(rf"""webhook\w*["']?\s*[:=]\s*["']?https?://{_ADDRESS}{{12,}}""", re.IGNORECASE)),
    # A shell script or a YAML file quotes nothing.
    (
        "secret by its name",
        re.compile(r"""(?:API_?KEY|ACCESS_KEY|SECRET|TOKEN|PASSWORD)["']?\s*[:=]\s*["']?(?=[^\s"']*\d)[\w/+-]{20,}"""),
    ),
)
"""What detect-secrets does not know."""
PLUGINS = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
"""detect-secrets' detectors; those of mere entropy are left out, for they take every digest for a secret."""


@dataclass(frozen=True)
class Finding:
    """Where something like a credential stands; never what it says."""

    file: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}" if self.line else f"{self.file}: {self.kind}"


def scan(files: Mapping[str, bytes], own_secrets: Iterable[str] = ()) -> list[Finding]:
    """Everything in `files` (name -> content) that looks like a credential.

    Parameters
    ----------
    own_secrets
        Literal values that this machine knows to be secret; found wherever they stand, in binary files too.
    """
    own = [secret.encode() for secret in own_secrets if len(secret) >= 8]
    findings: list[Finding] = []
    texts: dict[str, str] = {}
    for name, content in files.items():
        if FORBIDDEN_NAMES.fullmatch(PurePosixPath(name).name):
            findings.append(Finding(name, 0, "a file that holds credentials"))
        for secret in own:
            if (at := content.find(secret)) >= 0:
                findings.append(Finding(name, content.count(b"\n", 0, at) + 1, "this machine's own Kaggle credential"))
        if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            texts[name] = content.decode("utf-16", "replace")
        elif b"\0" not in content[:8192]:
            texts[name] = content.decode("utf-8", "replace")
        elif (token := KAGGLE_TOKEN_BYTES.search(content)) is not None:
            findings.append(Finding(name, content.count(b"\n", 0, token.start()) + 1, "Kaggle credential"))
    return findings + _scan_texts(texts)


def refuse(files: Mapping[str, bytes], own_secrets: Iterable[str] = ()) -> None:
    """Raise SecretFound, each place named and no secret quoted, when `scan` finds anything."""
    if findings := scan(files, own_secrets):
        places = "\n".join(f"  {finding}" for finding in findings)
        raise SecretFound(
            f"The bundle would carry what looks like a credential:\n{places}\n"
            "Remove it (read it from the environment instead), or leave the file out of the bundle. "
            "A line that is no secret may end in `# pragma: allowlist secret`."
        )


def _scan_texts(texts: Mapping[str, str]) -> list[Finding]:
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import transient_settings

    findings = []
    with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS]}):
        for name, text in texts.items():
            for number, written in enumerate(text.splitlines(), start=1):
                line = written.replace('\\"', '"')  # source inside a notebook is a JSON string
                if "pragma: allowlist secret" in line:
                    continue
                if KAGGLE_TOKEN.search(line) or KAGGLE_KEY.search(line):
                    findings.append(Finding(name, number, "Kaggle credential"))
                elif kind := next((kind for kind, pattern in OTHERS if pattern.search(line)), ""):
                    findings.append(Finding(name, number, kind))
                elif any(word in line for word in _HINTS) or (len(line) > 20 and _CANDIDATE.search(line)):
                    findings += [Finding(name, number, found.type) for found in scan_line(line)]
    return findings


_HINTS = ("-----BEGIN", "://")
_CANDIDATE = re.compile(r"[A-Za-z0-9_\-/+]{16,}|(?i:key|token|secret|passw|pwd|auth)")
