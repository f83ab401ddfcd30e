// Asks what autoscaler/deploy/stack.py knows of AWS, for the framework's plugins.
"use strict";

const { spawnSync } = require("node:child_process");
const path = require("node:path");

const root = path.dirname(__dirname);
const python = path.join(root, ".venv", "bin", "python");

// Runs a module of the project; what it says on standard error is the sentence of its refusal.
const run = (serverless, module_, commandLine, input = "") => {
  const result = spawnSync(python, ["-m", module_, ...commandLine], { cwd: root, encoding: "utf8", input, maxBuffer: 16 * 1024 * 1024 });
  if (result.error) throw new serverless.classes.Error(`${python} cannot be run (${result.error.code}): run \`make setup\` first.`);
  if (result.status !== 0) throw new serverless.classes.Error(result.stderr.trim());
  return result.stdout;
};

const askStack = (serverless, command, stack, region, input) =>
  run(serverless, "autoscaler.deploy.stack", [command, stack, "--region", region], input);

module.exports = { run, askStack };
