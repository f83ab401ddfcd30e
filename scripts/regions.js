// What the regions offer (cloudformation/regions.json): the same table for both services, and for `verify-aws`.
"use strict";

const { dual_stack: DUAL_STACK, read_on: READ_ON } = require("../cloudformation/regions.json");

// What functions without IPv4 call. DynamoDB is not among them: its free gateway endpoint is IPv4.
const CALLED_BY_IPV6 = ["ec2", "sns"];

// The sentence about a region in which something that every deployment needs is missing, or nothing.
const unknownRegion = (_, { region }) =>
  !(region in DUAL_STACK) &&
  `Region ${region} is not known to have every service that is needed (cloudformation/regions.json, read on ${READ_ON}): take another region, or add it there once AWS' endpoint tables name it.`;

const lacksIpv6 = (region) => region in DUAL_STACK && !CALLED_BY_IPV6.every((service) => DUAL_STACK[region].includes(service));

module.exports = { unknownRegion, lacksIpv6 };
