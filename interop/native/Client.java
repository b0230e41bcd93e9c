import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** The native protocol from Java's own HTTP client (which offers HTTP/2 first): keys, locks, transactions. */
public class Client {
    static final String API = System.getenv("TOWNHALL_URL") + "/api/v1";
    static final HttpClient HTTP = HttpClient.newHttpClient();
    static int count;

    static void check(String what, boolean good, Object detail) {
        count++;
        System.out.println(good ? "ok " + count + " - " + what : "not ok " + count + " - " + what + ": " + detail);
    }

    static HttpRequest request(String method, String path, String body) {
        var publisher = body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body);
        return HttpRequest.newBuilder(URI.create(API + path)).header("Content-Type", "application/json")
            .method(method, publisher).build();
    }

    static HttpResponse<String> call(String method, String path, String body) throws Exception {
        return HTTP.send(request(method, path, body), BodyHandlers.ofString());
    }

    static String lease() throws Exception {
        return call("POST", "/leases", "{\"ttl_ms\":60000}").body().replaceAll("(?s).*\"lease\":\"(\\d+)\".*", "$1");
    }

    public static void main(String[] arguments) throws Exception {
        check("put a key", call("PUT", "/kv/java/a", "1").statusCode() == 200, "");
        var txn = "{\"compares\":[{\"key\":\"java/a\",\"target\":\"value\",\"relation\":\"=\",\"value\":\"1\"}],"
            + "\"success\":[{\"put\":{\"key\":\"java/b\",\"value\":\"2\"}}],\"failure\":[{\"get\":{\"key\":\"java/a\"}}]}";
        var done = call("POST", "/txn", txn);
        check("transaction", done.body().contains("\"succeeded\":true"), done.body());
        check("its write is there", call("GET", "/kv/java/b?raw", null).body().equals("2"), "");

        var first = lease();
        var second = lease();
        var held = call("POST", "/locks/java-lock", "{\"lease\":\"" + first + "\"}");
        check("lock", held.statusCode() == 200 && held.body().contains("\"fence\""), held.body());
        var refused = call("POST", "/locks/java-lock", "{\"lease\":\"" + second + "\"}");
        check("the second is refused", refused.statusCode() == 409, refused.body());
        CompletableFuture<HttpResponse<String>> waiting = HTTP.sendAsync(
            request("POST", "/locks/java-lock", "{\"lease\":\"" + second + "\",\"wait_ms\":20000}"), BodyHandlers.ofString());
        call("DELETE", "/locks/java-lock?lease=" + first, null);
        var got = waiting.get(30, TimeUnit.SECONDS);
        check("and gets it after the release", got.statusCode() == 200 && got.body().contains("\"held\":true"), got.body());
        check("malformed JSON is named", call("POST", "/txn", "{\"compares\":").statusCode() == 400, "");
    }
}
