"""What a page of JupyterLab looks like in the tests."""

from __future__ import annotations

import json
from pathlib import Path


def theme(settings: Path, name: str) -> None:
    """What the next page that is loaded looks like."""
    files = {
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/themes": {"theme": f"JupyterLab {name}"},
        "apputils-extension/notification": {"fetchNews": "false"},
    }
    for file, content in files.items():
        path = settings / "@jupyterlab" / f"{file}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
