"""What JupyterLab's page loads: extensions that come with the platform are files on disk to Caddy, like JupyterLab itself."""

import os

from jupyterlab_server import handlers

EXTENSIONS = "share/jupyter/labextensions"
PAGE_HAS_THEM_AT = "lab/extensions"


def install(server):
    """Have the page name the files of extensions under ``server`` (the platform's packages) as Caddy has them."""
    told = handlers.get_page_config

    def get_page_config(*args, **options):
        page = told(*args, **options)
        for extension in page.get("federated_extensions", []):
            extension["load"] = from_disk(server, extension["name"], extension["load"])
        return page

    handlers.get_page_config = get_page_config


def from_disk(server, name, load):
    """The file of an extension as seen from where the page has that; a team's own, of whatever version, stays there."""
    if not os.path.isfile(f"{server}/{EXTENSIONS}/{name}/{load}"):
        return load
    up = "../" * len(f"{PAGE_HAS_THEM_AT}/{name}".split("/"))
    return f"{up}_cloister/static/{os.environ['CLOISTER_JUPYTER']}/lib/{EXTENSIONS}/{name}/{load}"
