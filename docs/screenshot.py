"""``python docs/screenshot.py PAGE.html PICTURE.png``: the first screens of a page as a picture."""

from __future__ import annotations

import sys
from pathlib import Path

from browser import chromium, opened

WIDTH, HEIGHT = 1000, 1500


def main(page: Path, picture: Path) -> None:
    """Take the picture; tests/browser.py finds Chromium."""
    with chromium() as browser, opened(browser, page, WIDTH) as shown:
        area = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
        shown.page.screenshot(path=picture, clip=area, full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
