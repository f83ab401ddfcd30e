// Asks the project's Python what it knows: of AWS (autoscaler/deploy/stack.py) for the framework's plugins, of the policy
// for what is made while the framework's variables are resolved.
"use strict";

const { spawnSync } = require("node:child_process");
const path = require("node:path");

const root = path.dirname(__dirname);
const python = path.join(root, ".venv", "bin", "python");

// Runs a module of the project; what it says on standard error is the sentence of its refusal.
const ask = (refuse, module_, commandLine, input = "") => {
  const result = spawnSync(python, ["-m", module_, ...commandLine], { cwd: root, encoding: "utf8", input, maxBuffer: 16 * 1024 * 1024 });
  if (result.error) throw refuse(`${python} cannot be run (${result.error.code}): run \`make setup\` first.`);
  if (result.status !== 0) throw refuse(result.stderr.trim());
  return result.stdout;
};

// While variables are resolved. Without a stack: the framework prints it in front of the sentence.
const refusal = (sentence) => Object.assign(new Error(sentence), { stack: "" });
const askInVariables = (module_, commandLine) => ask(refusal, module_, commandLine);

const run = (serverless, ...question) => ask((sentence) => new serverless.classes.Error(sentence), ...question);

const askStack = (serverless, command, stack, region, input) =>
  run(serverless, "autoscaler.deploy.stack", [command, stack, "--region", region], input);

module.exports = { run, askStack, askInVariables, refusal };
