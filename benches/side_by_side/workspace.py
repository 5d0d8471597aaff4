"""Oxen's own client: all files of a folder into a workspace, then one commit. URL REPO FOLDER"""

import pathlib
import sys

import oxen

url, repo, folder = sys.argv[1:]
scheme, host = url.split("://")
oxen.auth.config_auth("bench", host=host)
oxen.user.config_user("bench", "bench@localhost")
remote = oxen.RemoteRepo(repo, host=host, scheme=scheme)
remote.create(empty=False)
workspace = oxen.Workspace(remote, "main")
files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
failed = workspace.add_files(folder, files)
if failed:
    sys.exit(f"{len(failed)} files failed: {failed[0]}")
workspace.commit("all of it")
