// What the server runs beside K3s, as SSM parameters: the manifests of monitoring/ rendered for this cluster from
// its policy, and the sync script. The server fetches them whenever bundle-info changes: no S3 bucket, no public
// address, and a policy that changed reaches the server with the next deployment of this stack.
"use strict";

const path = require("node:path");
const { askInVariables } = require("../../scripts/ask-python.js");
const { rules } = require("../../scripts/cluster-settings.js");

const packed = ({ clusterId, imageDigests, policyFile }) => {
  const digests = imageDigests.split(",").filter(Boolean).flatMap((digest) => ["--image-digest", digest]);
  return JSON.parse(askInVariables("autoscaler.deploy.bundle", ["--cluster-id", clusterId, "--policy", path.resolve(policyFile), ...digests]));
};

const parameter = (name, value, description, more = {}) => ({
  Type: "AWS::SSM::Parameter",
  ...more,
  Properties: { Name: name, Type: "String", Tier: "Standard", Description: description, Value: value },
});

const resources = (clusterId, { info, pieces }) => {
  const numbered = pieces.map((piece, index) => {
    const number = String(index).padStart(2, "0");
    return [`Bundle${number}`, parameter(`/k3s/${clusterId}/bundle/${number}`, piece, "What the K3s server runs, in pieces: base64 of a tar.gz")];
  });
  return {
    ...Object.fromEntries(numbered),
    // Last, so that a server that sees it change finds the pieces that it tells of.
    BundleInfo: parameter(`/k3s/${clusterId}/bundle-info`, info, "Number of pieces and SHA-256 of the bundle", {
      DependsOn: numbered.map(([id]) => id),
    }),
  };
};

const accepted = ([name, value]) => rules[name][0].test(value);

module.exports = async ({ resolveVariable }) => {
  const clusterId = String(await resolveVariable("param:clusterId"));
  const imageDigests = String(await resolveVariable("param:imageDigests"));
  const policyFile = String(await resolveVariable("param:policyFile"));
  // What these rules refuse stops the packaging a moment later, in the settings plugin, with all that is wrong.
  if (!Object.entries({ clusterId, imageDigests, policyFile }).every(accepted)) return { Resources: {} };
  return { Resources: resources(clusterId, packed({ clusterId, imageDigests, policyFile })) };
};
