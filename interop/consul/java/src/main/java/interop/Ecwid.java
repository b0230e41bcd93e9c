package interop;

import static interop.Tap.check;
import static interop.Tap.until;

import com.ecwid.consul.v1.ConsulClient;
import com.ecwid.consul.v1.OperationException;
import com.ecwid.consul.v1.QueryParams;
import com.ecwid.consul.v1.Response;
import com.ecwid.consul.v1.agent.model.NewService;
import com.ecwid.consul.v1.catalog.CatalogServiceRequest;
import com.ecwid.consul.v1.catalog.CatalogServicesRequest;
import com.ecwid.consul.v1.health.HealthServicesRequest;
import com.ecwid.consul.v1.health.model.HealthService;
import com.ecwid.consul.v1.kv.model.PutParams;
import com.ecwid.consul.v1.session.model.NewSession;
import com.ecwid.consul.v1.session.model.Session;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** ecwid's consul-api: services, blocking queries, keys, sessions, and a provider that is killed. */
public final class Ecwid {
    static final ConsulClient CONSUL = new ConsulClient(Tap.CONSUL.getHost(), Tap.CONSUL.getPort());

    static Response<List<HealthService>> health(String service, QueryParams query) {
        var request = HealthServicesRequest.newBuilder().setPassing(true).setQueryParams(query).build();
        return CONSUL.getHealthServices(service, request);
    }

    static List<String> passing(String service) {
        return health(service, QueryParams.DEFAULT).getValue().stream().map(each -> each.getService().getId()).toList();
    }

    static NewService service(String name, int port) {
        var service = new NewService();
        service.setName(name);
        service.setId(name + "-1");
        service.setAddress("127.0.0.1");
        service.setPort(port);
        service.setCheck(new NewService.Check());
        return service;
    }

    static void provide() throws Exception {
        var server = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        var service = service("ecwid-victim", server.getLocalPort());
        service.getCheck().setTcp("127.0.0.1:" + server.getLocalPort());
        service.getCheck().setInterval("1s");
        service.getCheck().setTimeout("1s");
        service.getCheck().setDeregisterCriticalServiceAfter("5s");
        CONSUL.agentServiceRegister(service);
        System.out.println("ready");
        for (;;) server.accept().close();
    }

    static void services() throws Exception {
        var service = service("ecwid-web", 8080);
        service.setTags(List.of("v1", "zone=a"));
        service.setMeta(Map.of("zone", "a"));
        service.getCheck().setTtl("600s");
        var before = health("ecwid-web", QueryParams.DEFAULT);
        check("nobody there yet, with an index", before.getValue().isEmpty() && before.getConsulIndex() > 0, before);
        var watched = CompletableFuture.supplyAsync(
            () -> health("ecwid-web", new QueryParams(30, before.getConsulIndex())));
        CONSUL.agentServiceRegister(service);
        check("a new TTL check is critical", passing("ecwid-web").isEmpty(), "");
        CONSUL.agentCheckPass("service:ecwid-web-1", "well");
        check("and passes with its heartbeat", passing("ecwid-web").equals(List.of("ecwid-web-1")), "");
        var seen = watched.get(40, TimeUnit.SECONDS);
        check("a blocking query was answered", seen.getConsulIndex() > before.getConsulIndex(), seen);
        var all = health("ecwid-web", QueryParams.DEFAULT).getValue().get(0);
        check("fields", all.getService().getPort() == 8080 && all.getService().getMeta().get("zone").equals("a")
            && all.getService().getTags().contains("zone=a") && all.getNode().getAddress() != null, all);
        var catalog = CONSUL.getCatalogService("ecwid-web", CatalogServiceRequest.newBuilder().setTag("v1").build());
        check("in the catalogue", catalog.getValue().size() == 1, catalog);
        CONSUL.agentServiceSetMaintenance("ecwid-web-1", true, "lunch");
        check("maintenance takes it out", passing("ecwid-web").isEmpty(), "");
        CONSUL.agentServiceSetMaintenance("ecwid-web-1", false);
        CONSUL.agentServiceDeregister("ecwid-web-1");
        var names = CONSUL.getCatalogServices(CatalogServicesRequest.newBuilder().build()).getValue();
        check("deregistered", !names.containsKey("ecwid-web") && names.containsKey("consul"), names);
    }

    static void keys() throws Exception {
        CONSUL.setKVValue("ecwid/a", "ä 1");
        var value = CONSUL.getKVValue("ecwid/a");
        check("a key", value.getValue().getDecodedValue().equals("ä 1"), value);
        check("none", CONSUL.getKVValue("ecwid/none").getValue() == null, "");
        var cas = new PutParams();
        cas.setCas(value.getValue().getModifyIndex() - 1);
        check("cas refuses", !CONSUL.setKVValue("ecwid/a", "2", cas).getValue(), "");
        cas.setCas(value.getValue().getModifyIndex());
        check("cas", CONSUL.setKVValue("ecwid/a", "2", cas).getValue(), "");
        check("names", CONSUL.getKVKeysOnly("ecwid/").getValue().equals(List.of("ecwid/a")), "");

        var wanted = new NewSession();
        wanted.setLockDelay(1);
        wanted.setBehavior(Session.Behavior.DELETE);
        var first = CONSUL.sessionCreate(wanted, QueryParams.DEFAULT).getValue();
        var second = CONSUL.sessionCreate(new NewSession(), QueryParams.DEFAULT).getValue();
        check("acquire", CONSUL.setKVValue("ecwid/lock", "1", acquire(first)).getValue(), first);
        check("the second is refused", !CONSUL.setKVValue("ecwid/lock", "2", acquire(second)).getValue(), second);
        CONSUL.sessionDestroy(first, QueryParams.DEFAULT);
        check("the key goes with its session", CONSUL.getKVValue("ecwid/lock").getValue() == null, "");
        check("the lock is free after its delay",
            until(() -> CONSUL.setKVValue("ecwid/lock", "2", acquire(second)).getValue()), "");
        CONSUL.sessionDestroy(second, QueryParams.DEFAULT);
        CONSUL.deleteKVValues("ecwid/");
    }

    static PutParams acquire(String session) {
        var parameters = new PutParams();
        parameters.setAcquireSession(session);
        return parameters;
    }

    static void others() {
        check("agent self", CONSUL.getAgentSelf().getValue().getConfig().getDatacenter().equals("dc1"), "");
        check("a leader", CONSUL.getStatusLeader().getValue().contains(":"), CONSUL.getStatusLeader());
        try {
            CONSUL.agentServiceRegister(new NewService());
            check("a bad registration is refused", false, "");
        } catch (OperationException refused) {
            check("a bad registration is refused", refused.getStatusContent().contains("name"), refused);
        }
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length > 0) provide();
        others();
        services();
        keys();
        var victim = Tap.child(Ecwid.class, "provide");
        check("a provider of another process is found", until(() -> passing("ecwid-victim").size() == 1), "");
        victim.destroyForcibly();
        check("killed, it is not passed on any more", until(() -> passing("ecwid-victim").isEmpty()), "");
        var request = CatalogServiceRequest.newBuilder().build();
        check("and then gone by itself",
            until(() -> CONSUL.getCatalogService("ecwid-victim", request).getValue().isEmpty()), "");
    }
}
