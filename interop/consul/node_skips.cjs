// Required by mocha: what skips.json lists under "node-consul::" is skipped; the reasons stand there.
const skips = require("./skips.json");

exports.mochaHooks = {
  beforeEach() {
    if (skips[`node-consul::${this.currentTest.fullTitle()}`]) this.skip();
  },
};
