// Whether standard input is a valid OpenAPI document. Prints what is wrong, one a line.
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";

const document = JSON.parse(readFileSync(0, "utf8"));
const validator = new Validator();
const result = await validator.validate(document);
if (!result.valid) {
  console.log(JSON.stringify(result.errors, null, 1));
  process.exit(1);
}
console.log(`OpenAPI ${validator.version}`);
