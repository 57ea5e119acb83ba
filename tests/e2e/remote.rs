//! Jobs given to a host by the command line: uploaded, followed, and ended as the job did.

use crate::{
    guests::guest,
    host::Host,
    support::{World, data_file},
};

#[test]
fn a_job_that_is_submitted_and_waited_for_prints_and_exits_as_if_it_had_run_here() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    let kmer = guest("kmer");
    let input = format!("genome={}", data_file("lambda_virus.fa").display());
    let submit = ["submit", &kmer, "--job-id", "k", "--input", &input, "--wait", "--", "-k", "21"];
    let printed = world.run(submit).ok().text();
    assert!(printed.contains("distinct 48482\n"), "{printed}");
    // Repeated, it is answered by the job that is there.
    assert_eq!(world.run(submit).ok().text(), printed);
    assert_eq!(world.run(["logs", "-f", "k"]).ok().text(), printed);
    let greedy = guest("greedy");
    world.run(["submit", &greedy, "--wait", "--", "exit", "3"]).exits(3);
    host.stop();
}
