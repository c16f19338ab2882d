"""Keep the pages from asking anything of the network, so that the book opens from a folder on a plane."""


def drop_remote_scripts(app, pagename, templatename, context, doctree):
    """Leave out the scripts that sphinx-thebe adds to every page: they load its code from a public server."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in f"{script.filename} {script.attributes}".lower()
    ]


def setup(app):
    app.connect("html-page-context", drop_remote_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
