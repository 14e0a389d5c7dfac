// SPDX-License-Identifier: Apache-2.0
// node validate.cjs FILE...: prints the issues that Khronos' validator finds, as JSON by file.
const fs = require("fs");
const path = require("path");
const validator = require(path.join(process.env.CROWDGAUSSIAN_NODE, "gltf-validator"));

async function main(files) {
  const reports = {};
  for (const file of files) {
    const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)), {
      uri: file,
      maxIssues: 0,
    });
    reports[file] = report.issues;
  }
  console.log(JSON.stringify(reports));
}

main(process.argv.slice(2));
