/** Says that it runs, then waits to be killed. */
setInterval(() => {}, 1000);
console.log("ready");
