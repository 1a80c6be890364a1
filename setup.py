from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Requirement lines of ``requirements/<name>.txt``, comments left out."""
    lines = (line.split("#")[0].strip() for line in (HERE / "requirements" / f"{name}.txt").read_text().splitlines())
    return [line for line in lines if line]


version: dict[str, str] = {}
exec((HERE / "mmreid_text" / "version.py").read_text(), version)

setup(
    name="mmreid_text",
    version=version["__version__"],
    description="Toolbox for text-to-image person re-identification",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["mmreid_text", "mmreid_text.*"]),
    include_package_data=True,
    package_data={
        "mmreid_text": [
            "py.typed",
            "weights/*.pt",
            "captioning/*.txt",
            "pseudo_text/*.yaml",
            "text_iou/*.txt",
            "page/*.css",
            "page/*.js",
        ]
    },
    install_requires=requirements("runtime"),
    extras_require={name: requirements(name) for name in ("captioning", "clustering", "search", "tests")},
)
