// Which version is deployed: the package's, and the commit of the clone where there is one. An output of the stack, not a
// part of the zip: a commit that changes nothing that runs changes no function.
"use strict";

const { spawnSync } = require("node:child_process");
const path = require("node:path");

const { version } = require("../package.json");

const root = path.dirname(__dirname);
// This clone's own, not that of a repository which it lies in.
const clone = ["--no-optional-locks", "--git-dir", path.join(root, ".git"), "--work-tree", root];

module.exports = async () => {
  const { status, stdout } = spawnSync("git", [...clone, "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"], { encoding: "utf8" });
  return { version: status === 0 ? `${version}+${stdout.trim().replace("-", ".")}` : version };
};
