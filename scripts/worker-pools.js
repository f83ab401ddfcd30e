// The launch templates that the policy's pools need (autoscaler/deploy/pools.py), and what else is made of them: their
// images, what the functions are told of them, and the policy's hash. The first is WorkerLaunchTemplate of cloudformation/workers.yml; the
// others are its copies (cloudformation/pool-templates.js).
"use strict";

const path = require("node:path");
const { askInVariables } = require("./ask-python.js");

// A policy that is not valid, or does not fit the image, stops the packaging a moment later, in the settings plugin, with
// all that is wrong.
const PLAIN = {
  policyHash: "unknown",
  templates: [{ suffix: "", pool: "general", arch: "amd64", imageId: "", imageParameter: "", volumeGb: null, subnets: [], agentArguments: [] }],
};

// Several files ask while one deployment's variables are resolved.
const answers = new Map();

const answerFor = async (param) => {
  const image = (await param("workerImageId")) ? "" : String((await param("workerImageParameter")) ?? "");
  const question = [path.resolve((await param("policyFile")) || "policy.yml"), image];
  const key = JSON.stringify(question);
  if (!answers.has(key)) answers.set(key, ask(question));
  return answers.get(key);
};

const templatesFor = async (param) => (await answerFor(param)).templates;

const ask = (question) => {
  try {
    return JSON.parse(askInVariables("autoscaler.deploy.pools", question));
  } catch {
    return PLAIN;
  }
};

const logicalId = ({ suffix }) => `WorkerLaunchTemplate${suffix}`;
const imageParameterId = ({ suffix }) => `WorkerImage${suffix || "OfFirst"}`;

// As a launch template names it.
const imageOf = (template, workerImageId) => {
  if (template.imageId) return template.imageId;
  if (template.imageParameter) return { Ref: imageParameterId(template) };
  return { "Fn::If": ["HasWorkerImage", workerImageId, { Ref: "WorkerImage" }] };
};

// ARNs.
const image = (id) => ({ "Fn::Sub": `arn:\${AWS::Partition}:ec2:\${AWS::Region}::image/${id}` });
const subnet = (id) => ({ "Fn::Sub": `arn:\${AWS::Partition}:ec2:\${AWS::Region}:*:subnet/${id}` });
const launchTemplate = (template) => ({
  "Fn::Sub": `arn:\${AWS::Partition}:ec2:\${AWS::Region}:\${AWS::AccountId}:launch-template/\${${logicalId(template)}}`,
});

// Whether launches may name more than the default pool's do: a policy of its own allows it.
const hasPolicy = (templates) => templates.length > 1 || templates[0].subnets.length > 0;

module.exports = async ({ resolveVariable }) => {
  const param = async (name) => resolveVariable(`param:${name}, ""`);
  const { policyHash, templates } = await answerFor(param);
  const [first, ...others] = templates;
  return {
    policyHash,
    image: imageOf(first, await param("workerImageId")),
    volumeGb: first.volumeGb ?? (await param("workerVolumeGb")),
    policy: { Ref: hasPolicy(templates) ? "PoolLaunchPolicy" : "AWS::NoValue" },
    // `gpu/amd64=lt-...,...`: as autoscaler/runtime.py reads it.
    launchTemplates: others.length === 0 ? "" : { "Fn::Sub": others.map((one) => `${one.pool}/${one.arch}=\${${logicalId(one)}}`).join(",") },
  };
};

Object.assign(module.exports, { hasPolicy, image, imageOf, imageParameterId, launchTemplate, logicalId, subnet, templatesFor });
