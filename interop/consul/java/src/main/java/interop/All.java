package interop;

/** One program after the other; an exception ends them and is a failure of its own. */
public final class All {
    public static void main(String[] arguments) {
        int status = 0;
        try {
            Ecwid.main(new String[0]);
            Orbitz.main(new String[0]);
            Spring.main(new String[0]);
        } catch (Exception failure) {
            failure.printStackTrace();
            Tap.check("no exception", false, failure);
            status = 1;
        }
        System.exit(status);
    }
}
