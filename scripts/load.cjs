/** Runs the `main` of a task module. Apart from run.cjs because `import()` does not parse on old versions of Node. */
module.exports = (file, args) => {
  import(file)
    .then((task) => task.main(args))
    .catch((error) => {
      console.error(process.env.MILLRACE_DEBUG || !error || !error.plain ? error : error.message);
      process.exit(1);
    });
};
