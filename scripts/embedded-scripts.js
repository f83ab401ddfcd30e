// What the templates embed: the workers' and the server's user data and the node-command document, all made of scripts
// that stand in files of their own, where they are linted and tested.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { askInVariables, refusal } = require("./ask-python.js");
const { templatesFor } = require("./worker-pools.js");

const folder = path.join(__dirname, "..", "cloudformation", "scripts");
const read = (name) => fs.readFileSync(path.join(folder, name), "utf8");

// Comment lines, and what stands behind a function's name or the end of a case, are for the reader of the repository:
// user data is limited to 16 KiB.
const withoutComments = (script) =>
  script
    .split("\n")
    .filter((line, index) => index === 0 || !/^\s*#/.test(line))
    .map((line) => line.replace(/^([a-z_0-9]+\(\) \{| .* ;;) # .*$/, "$1"))
    .join("\n");

// One word for a POSIX shell, whatever it holds.
const quoted = (value) => `'${String(value).replaceAll("'", "'\\''")}'`;

// The framework looks for its own ${...} in every string: a script's are escaped, and come out as they were.
const escaped = (text) => text.replaceAll("${", "\\${");

const afterFirstLine = (script, lines) => {
  const [first, ...rest] = script.split("\n");
  return [first, ...lines, ...rest].join("\n");
};

// A script reads others of its folder in; user data and a document are one file.
const withParts = (script) =>
  script.replace(/^\. "\$\{0%\/\*\}\/([a-z-]+\.sh)"$/gm, (_, name) => read(name).trimEnd().split("\n").slice(1).join("\n"));

const USER_DATA_LIMIT_BYTES = 16384;

const bootstrap = (name, settings, longest) => {
  const script = afterFirstLine(
    withoutComments(withParts(read(name))),
    Object.entries(settings).map(([variable, value]) => `export ${variable}=${quoted(value)}`),
  );
  if (Buffer.byteLength(script) > USER_DATA_LIMIT_BYTES) {
    throw refusal(`The user data made of ${name} has ${Buffer.byteLength(script)} bytes, and EC2 takes ${USER_DATA_LIMIT_BYTES}: shorten what stands in it, such as parameter ${longest}.`);
  }
  return script;
};

const base64 = (text) => Buffer.from(text).toString("base64");

// Only CloudFormation knows the id of a volume that it makes: it puts it where this one of the same length stands.
const SOME_VOLUME = "vol-00000000000000000";
const withVolume = (script, resource) => {
  const [before, after] = script.split(SOME_VOLUME, 2);
  return { "Fn::Base64": { "Fn::Join": ["", [escaped(before), { Ref: resource }, escaped(after)]] } };
};

// Every pattern is free of quotes, blanks and shell syntax: what passes cannot be anything but a word.
const parameters = {
  verb: { description: "What to do", allowedValues: ["inspect", "preflight", "drain", "uncordon", "delete-node", "status", "rules"] },
  node: { description: "Name of the Node; inspect finds it by provider-id, rules are of none", default: "", allowedPattern: "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$" },
  providerId: { description: "The provider-id that the Node must carry; rules are of none", default: "", allowedPattern: "^[a-zA-Z0-9:/._-]{0,256}$" },
  operationId: { description: "A repeat of an operation and verb returns the first result", allowedPattern: "^[a-z0-9-]{1,64}$" },
  fence: { description: "Lower than the Node's: refused", allowedPattern: "^(0|[1-9][0-9]{0,14})$" },
  notAfter: { description: "Epoch seconds; later than this: refused", allowedPattern: "^(0|[1-9][0-9]{0,11})$" },
  timeoutSeconds: { description: "How long a drain may take", default: "300", allowedPattern: "^[1-9][0-9]{0,4}$" },
  graceSeconds: { description: "Grace period of the pods; -1 leaves their own", default: "-1", allowedPattern: "^(-1|0|[1-9][0-9]{0,4})$" },
  reclaim: { description: "The machine goes away whatever we do", default: "false", allowedValues: ["true", "false"] },
};

// Agents from 3.3.2746.0 on hand parameters over in the environment; older ones put them into the text, which the
// patterns above make safe (AWS Systems Manager User Guide, "Troubleshooting parameter handling issues").
const handedOver = (name) => `if [ -z "\${SSM_${name}+x}" ]; then export SSM_${name}='{{ ${name} }}'; fi`;

const nodeCommandDocument = () =>
  JSON.stringify({
    schemaVersion: "2.2",
    description: "k3s-autoscaler: inspect, preflight, drain, uncordon, delete-node or status of one node, or the scheduler's rules, run on a K3s server.",
    parameters: Object.fromEntries(
      Object.entries(parameters).map(([name, rules]) => [name, { type: "String", interpolationType: "ENV_VAR", ...rules }]),
    ),
    mainSteps: [
      {
        action: "aws:runShellScript",
        name: "nodeCommand",
        inputs: {
          // The longest drain that the policy allows, a day, and an hour: for what is asked before it, to give the Node
          // back after it, and for a repeat that waits for its first run. SSM takes two days.
          timeoutSeconds: "90000",
          runCommand: afterFirstLine(
            withoutComments(withParts(read("node-command.sh"))),
            Object.keys(parameters).map(handedOver),
          ).split("\n"),
        },
      },
    ],
  });

// How long a worker tries to join. A policy that is not valid stops the packaging a moment later, in the settings plugin,
// with all that is wrong.
const joinDeadline = (policyFile) => {
  try {
    return askInVariables("autoscaler.deploy.join_deadline", [path.resolve(policyFile)]).trim();
  } catch {
    return "";
  }
};

// Of the workers that start from one launch template: its pool's arguments stand behind everybody's.
const workerUserData = async (param, { agentArguments }) =>
  base64(
    bootstrap(
      "worker-bootstrap.sh",
      {
        CLUSTER_ID: await param("clusterId"),
        EXTRA_AGENT_ARGUMENTS: [await param("k3sAgentArguments"), ...agentArguments].join(" "),
        REGISTRIES_PARAMETER: await param("k3sRegistriesParameter"),
        K3S_RELEASES_URL: await param("k3sReleasesUrl"),
        JOIN_DEADLINE_S: joinDeadline(await param("policyFile")),
      },
      "k3sAgentArguments, or the labels and agent_args of a pool in policy.yml",
    ),
  );

// Two services embed scripts: serverless.yml workers and node commands, cluster.yml the server.
const ofTheService = async (param) => ({
  workerUserData: await workerUserData(param, (await templatesFor(param))[0]),
  nodeCommandDocument: escaped(nodeCommandDocument()),
});

const ofTheCluster = async (param) => {
  const script = bootstrap(
    "server-bootstrap.sh",
    {
      CLUSTER_ID: await param("clusterId"),
      DATA_VOLUME: SOME_VOLUME,
      DATA_DEVICE: DATA_DEVICE,
      K3S_VERSION: await param("k3sVersion"),
      K3S_SHA256_AMD64: await param("k3sSha256Amd64"),
      K3S_SHA256_ARM64: await param("k3sSha256Arm64"),
      EXTRA_SERVER_ARGUMENTS: await param("k3sServerArguments"),
      REGISTRIES_PARAMETER: await param("k3sRegistriesParameter"),
      K3S_RELEASES_URL: await param("k3sReleasesUrl"),
    },
    "k3sServerArguments",
  );
  return { serverUserData: withVolume(script, "ServerData") };
};

// Under which name cluster.yml attaches the volume of /var/lib/rancher.
const DATA_DEVICE = "/dev/sdf";

module.exports = async ({ resolveVariable }) => {
  // A parameter that a service does not have is one that it leaves at its default.
  const param = async (name) => resolveVariable(`param:${name}, ""`);
  return (await resolveVariable("self:service")) === "k3s-autoscaler" ? ofTheService(param) : ofTheCluster(param);
};

Object.assign(module.exports, { workerUserData });
