// What the parameters of cluster.yml may be.
"use strict";

const { lacksIpv6, unknownRegion } = require("./regions.js");
const patterns = require("./setting-patterns.js");

const { clusterId, imageId, optional, parameterForm, parameterName, policyFile, releasesUrl, rootDevice, volumeGb } = patterns;

const number = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const ipv4Cidr = (prefix) => new RegExp(`^$|^${number}(\\.${number}){3}/${prefix}$`);
const ipv6Cidr = patterns.also(/^$|^[0-9a-f:]{2,39}\/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])$/, (value) => value === "" || patterns.isIpv6(value.split("/")[0]));
const digest = [/^([0-9a-f]{64})?$/, "a SHA-256 of 64 hexadecimal digits, or empty to trust the release's own checksum file"];

// K3s gives pods 10.42.0.0/16 and Services 10.43.0.0/16: a VPC on either could not be reached from a pod.
const vpcNetwork = new RegExp(`^(10\\.(?!4[23]$)${number}|172\\.(1[6-9]|2[0-9]|3[01])|192\\.168)$`);

// name: [what is accepted, what to say]
const rules = {
  clusterId,
  policyFile,
  vpcNetwork: [vpcNetwork, "the first two numbers of a private network, such as 10.0, 172.20 or 192.168, and not 10.42 or 10.43, which K3s gives to pods and Services"],
  zones: [/^([a-z]{2}(-[a-z]+)+-[0-9][a-z],[a-z]{2}(-[a-z]+)+-[0-9][a-z])?$/, "two zones of the region, such as eu-central-1a,eu-central-1c, or empty for its first two"],
  functionEgress: [/^(ipv6|existing)$/, "ipv6, or existing where you give the functions' route table a way to AWS yourself"],
  publicIngressCidr: [ipv4Cidr("([0-9]|[12][0-9]|3[0-2])"), "an IPv4 network such as 0.0.0.0/0 or 203.0.113.0/24, or empty for nobody"],
  publicIngressIpv6Cidr: [ipv6Cidr, "an IPv6 network such as ::/0 or 2001:db8::/32, or empty for nobody"],
  apiIngressCidr: [ipv4Cidr("(1[6-9]|2[0-9]|3[0-2])"), "an IPv4 network of /16 to /32 such as 203.0.113.7/32, or empty for nobody; without it the API is reached through Session Manager"],
  flannelBackend: [/^(vxlan|wireguard-native)$/, "vxlan or wireguard-native"],
  k3sVersion: [/^v1\.[0-9]{1,3}\.[0-9]{1,3}\+k3s[0-9]{1,2}$/, "a release of K3s such as v1.36.1+k3s1"],
  k3sSha256Amd64: digest,
  k3sSha256Arm64: digest,
  k3sServerArguments: [patterns.arguments, "arguments for `k3s server` separated by single blanks, of letters, digits and _ . , : = / @ % + -"],
  k3sRegistriesParameter: [optional(parameterName), `the name of an SSM parameter such as /k3s/shop/registries, ${parameterForm}, or empty`],
  k3sReleasesUrl: releasesUrl,
  imageDigests: [/^(?!(.*,)?([a-z0-9-]+)=[^,]*,(.*,)?\2=)([a-z0-9-]+=sha256:[0-9a-f]{64}(,[a-z0-9-]+=sha256:[0-9a-f]{64})*)?$/, "pairs such as prometheus=sha256:<64 hexadecimal digits> separated by commas without blanks, each image once, or empty to take images by their tags"],
  architecture: [/^(x86_64|arm64)$/, "x86_64 or arm64"],
  serverInstanceType: [/^(?=.{1,40}$)[a-z][a-z0-9-]*\.(nano|micro|small|medium|large|[0-9]{0,3}xlarge|metal[a-z0-9-]*)$/, "an EC2 instance type such as t3.medium"],
  serverImageParameter: [parameterName, `the name of a public SSM parameter that holds an AMI id, ${parameterForm}`],
  serverImageId: [optional(imageId), "an AMI id, or empty to take the one that serverImageParameter names"],
  serverRootDevice: rootDevice,
  serverVolumeGb: volumeGb,
  serverDataVolumeGb: volumeGb,
  serverPresent: patterns.boolean,
};

// AWS' naming: a `g` behind the generation's number says Graviton, as in t4g, c7gn or im4gn; a1 is older than the rule.
const isArm = (instanceType) => /^(a1|[a-z]+[0-9]+[a-z-]*g[a-z-]*)\./.test(instanceType);
const IMAGE_WORDS = { x86_64: /arm64|aarch64/, arm64: /x86_64|amd64/ };

// Rules about several parameters: the sentence, or nothing.
const together = [
  unknownRegion,
  ({ functionEgress }, { region }) =>
    functionEgress === "ipv6" &&
    lacksIpv6(region) &&
    `Parameter functionEgress is "ipv6" and region ${region} is not known to have dual-stack endpoints of EC2 and SNS: set functionEgress to existing and give the functions' route table a NAT gateway, or take another region.`,
  ({ zones }, { region }) => {
    const [first, second] = String(zones ?? "").split(",");
    if (second === undefined) return false;
    if (first === second) return `Parameter zones is "${zones}": it must be two different zones.`;
    const foreign = [first, second].filter((zone) => zone.slice(0, -1) !== region);
    return foreign.length > 0 && `Parameter zones is "${zones}": ${foreign.join(" and ")} is not in region ${region}; take two zones of that region.`;
  },
  ({ architecture, serverInstanceType }) =>
    isArm(String(serverInstanceType)) !== (architecture === "arm64") &&
    `Parameters architecture and serverInstanceType do not fit: ${serverInstanceType} is ${isArm(String(serverInstanceType)) ? "arm64" : "x86_64"}; set architecture to that, or take another type.`,
  ({ architecture, serverImageId, serverImageParameter }) =>
    !serverImageId &&
    IMAGE_WORDS[architecture]?.test(String(serverImageParameter)) &&
    `Parameters architecture and serverImageParameter do not fit: ${serverImageParameter} names an image for another architecture than ${architecture}.`,
  ({ flannelBackend, k3sServerArguments }) =>
    (flannelBackend === "wireguard-native") !== /(^| )--flannel-backend=wireguard-native( |$)/.test(String(k3sServerArguments ?? "")) &&
    "Parameters flannelBackend and k3sServerArguments belong together: set flannelBackend to wireguard-native and add --flannel-backend=wireguard-native to the arguments, or do neither.",
  // As cloudformation/cluster/server.yml attaches it, and as a Xen machine's kernel would call it.
  ({ serverRootDevice }) =>
    ["/dev/sdf", "/dev/xvdf"].includes(String(serverRootDevice)) &&
    `Parameter serverRootDevice is "${serverRootDevice}", which is the name of the cluster's data volume: take the AMI's root device.`,
  patterns.noSecretIn("k3sServerArguments"),
  // Workers are told of port 6443, and the data volume stands at the default place.
  patterns.leavesAlone("k3sServerArguments", "node-name|data-dir|d|https-listen-port"),
];

module.exports = { file: "cluster.yml", rules, together };
