package interop;

import java.net.URI;
import java.util.concurrent.Callable;

/** What the programs of this folder share: TAP lines, where Townhall is, and patience. */
final class Tap {
    static final URI CONSUL = URI.create(System.getenv("TOWNHALL_CONSUL_URL"));
    private static int count;

    private Tap() {}

    static void check(String what, boolean good, Object detail) {
        count++;
        System.out.println(good ? "ok " + count + " - " + what : "not ok " + count + " - " + what + ": " + detail);
    }

    static boolean until(Callable<Boolean> condition) throws Exception {
        for (long end = System.currentTimeMillis() + 60_000; System.currentTimeMillis() < end; Thread.sleep(50)) {
            if (condition.call()) return true;
        }
        return false;
    }

    /** This program once more, in a process of its own; returns when it has written a line that begins with "ready". */
    static Process child(Class<?> program, String... arguments) throws Exception {
        var command = new java.util.ArrayList<>(java.util.List.of(
            ProcessHandle.current().info().command().orElse("java"), "-cp", System.getProperty("java.class.path"),
            program.getName()));
        command.addAll(java.util.List.of(arguments));
        var process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        var reader = process.inputReader();
        for (String line = reader.readLine(); line != null; line = reader.readLine()) {
            if (line.startsWith("ready")) return process;
        }
        throw new IllegalStateException("the provider ended with " + process.waitFor());
    }
}
