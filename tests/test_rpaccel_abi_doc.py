"""docs/abi.md is what the contract prints."""

from pathlib import Path

from rpaccel import abi
from rpaccel.abi_doc import abi_markdown
from rpaccel.image_layout import FIELD, PARAM, PASS, STAGE
from rpaccel.registers import CAPABILITIES, REGISTERS

PAGE = Path(__file__).parent.parent / "docs" / "abi.md"


def test_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == abi_markdown(), (
        "run: python -m rpaccel.abi_doc > docs/abi.md"
    )


def test_page_is_complete():
    page = abi_markdown()
    for name in (*REGISTERS, *CAPABILITIES, *(s.name for s in abi.Status)):
        assert f"`{name}`" in page
    for layout in (abi.DESCRIPTOR, abi.COMPLETION, STAGE, FIELD, PASS, PARAM):
        for field in layout:
            assert f"`{field.name}`" in page
