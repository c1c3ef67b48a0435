"""`kipoi-borzoi doctor`: what works here."""

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    add_verb(
        nouns,
        "doctor",
        _doctor,
        "what is installed, which tools work, what is missing",
        "Print versions, which of Kipoi's tools work here and by which fixes, what is missing with the command that\n"
        "mends it, the machine, and where zoo and cache are. Put its output into every bug report. The exit\n"
        "status is 1 when a needed package is missing or of a wrong version.",
        """
        kipoi-borzoi doctor
        """,
    )


def _doctor(args) -> int:
    from kipoi_borzoi.kipoi_tools.doctor import examine, format_report

    sections = examine()
    print(format_report(sections))
    return 0 if all(section.is_well for section in sections if section.required) else 1
