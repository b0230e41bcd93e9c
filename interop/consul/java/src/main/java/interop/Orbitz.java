package interop;

import static interop.Tap.check;
import static interop.Tap.until;

import com.google.common.net.HostAndPort;
import com.orbitz.consul.Consul;
import com.orbitz.consul.cache.KVCache;
import com.orbitz.consul.cache.ServiceHealthCache;
import com.orbitz.consul.model.agent.ImmutableRegistration;
import com.orbitz.consul.model.agent.Registration;
import com.orbitz.consul.model.kv.Value;
import com.orbitz.consul.model.session.ImmutableSession;
import com.orbitz.consul.option.QueryOptions;
import java.util.Map;

/** orbitz' consul-client: its caches over services and keys, TTL checks, locks. */
public final class Orbitz {
    static String read(Map<String, Value> keys) {
        var value = keys == null ? null : keys.get("one");
        return value == null ? "" : value.getValueAsString().orElse("");
    }

    public static void main(String[] arguments) throws Exception {
        var address = HostAndPort.fromParts(Tap.CONSUL.getHost(), Tap.CONSUL.getPort());
        var consul = Consul.builder().withHostAndPort(address).withReadTimeoutMillis(20_000).build();
        var agent = consul.agentClient();
        var services = ServiceHealthCache.newCache(consul.healthClient(), "orbitz-web");
        services.start();
        services.awaitInitialized(30, java.util.concurrent.TimeUnit.SECONDS);
        check("the cache of a service starts empty", services.getMap().isEmpty(), services.getMap());
        agent.register(ImmutableRegistration.builder().id("orbitz-1").name("orbitz-web").address("127.0.0.1").port(8080)
            .addTags("v1").putMeta("zone", "a").check(Registration.RegCheck.ttl(600L)).build());
        agent.pass("orbitz-1", "well");
        check("and is told of a registration", until(() -> services.getMap().size() == 1), services.getMap());
        var found = consul.healthClient().getHealthyServiceInstances("orbitz-web").getResponse();
        check("discovered", found.size() == 1 && found.get(0).getService().getMeta().get("zone").equals("a"), found);
        agent.fail("orbitz-1", "broken");
        check("and of a failure", until(() -> services.getMap().isEmpty()), services.getMap());
        agent.deregister("orbitz-1");
        check("deregistered", consul.catalogClient().getService("orbitz-web").getResponse().isEmpty(), "");
        services.stop();

        var keys = consul.keyValueClient();
        var cache = KVCache.newCache(keys, "orbitz/");
        cache.start();
        cache.awaitInitialized(30, java.util.concurrent.TimeUnit.SECONDS);
        keys.putValue("orbitz/one", "1");
        check("the cache of keys is told", until(() -> read(cache.getMap()).equals("1")), cache.getMap());
        keys.putValue("orbitz/one", "2");
        check("of a change, too", until(() -> read(cache.getMap()).equals("2")), cache.getMap());
        keys.deleteKeys("orbitz/");
        check("and of a deletion", until(() -> cache.getMap().isEmpty()), cache.getMap());
        cache.stop();

        var sessions = consul.sessionClient();
        var session = sessions.createSession(ImmutableSession.builder().name("orbitz").lockDelay("1ms").build()).getId();
        check("acquire", keys.acquireLock("orbitz/lock", session), session);
        check("who holds it", keys.getSession("orbitz/lock").orElse("").equals(session), keys.getSession("orbitz/lock"));
        check("release", keys.releaseLock("orbitz/lock", session), session);
        sessions.destroySession(session);
        keys.deleteKeys("orbitz/");
        var state = consul.healthClient().getAllServiceInstances("consul", QueryOptions.BLANK).getResponse();
        check("the registry itself", state.size() == 1, state);
        consul.destroy();
    }
}
