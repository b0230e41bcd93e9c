package interop;

import static interop.Tap.check;
import static interop.Tap.until;

import com.ecwid.consul.v1.ConsulClient;
import com.ecwid.consul.v1.catalog.CatalogServiceRequest;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.context.ServletWebServerApplicationContext;
import org.springframework.cloud.client.discovery.DiscoveryClient;
import org.springframework.cloud.client.discovery.event.HeartbeatEvent;
import org.springframework.cloud.client.loadbalancer.LoadBalancerClient;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.ApplicationListener;
import org.springframework.core.env.Environment;

/** Two Boot applications as everybody writes them: one registers itself, the other finds it; configuration from keys. */
@Configuration(proxyBeanMethods = false)
@EnableAutoConfiguration
public class Spring {
    static final AtomicInteger HEARTBEATS = new AtomicInteger();

    @Bean
    ApplicationListener<HeartbeatEvent> heartbeats() {
        return event -> HEARTBEATS.incrementAndGet();
    }

    static ServletWebServerApplicationContext start(String name) {
        var application = new SpringApplication(Spring.class);
        String consul = "spring.cloud.consul.";
        return (ServletWebServerApplicationContext) application.run(
            "--spring.application.name=" + name, "--server.port=0", "--server.address=127.0.0.1",
            "--spring.main.banner-mode=off", "--logging.level.root=warn",
            "--" + consul + "host=" + Tap.CONSUL.getHost(), "--" + consul + "port=" + Tap.CONSUL.getPort(),
            "--spring.config.import=consul:" + Tap.CONSUL.getHost() + ":" + Tap.CONSUL.getPort(),
            "--" + consul + "config.watch.wait-time=5", "--" + consul + "config.watch.delay=100",
            "--" + consul + "discovery.prefer-ip-address=true", "--" + consul + "discovery.ip-address=127.0.0.1",
            "--" + consul + "discovery.instance-id=" + name + "-1",
            "--" + consul + "discovery.health-check-interval=1s",
            "--" + consul + "discovery.health-check-critical-timeout=10s",
            "--" + consul + "discovery.query-passing=true", "--" + consul + "discovery.tags=v1,zone=a",
            "--" + consul + "discovery.catalog-services-watch-delay=100");
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length > 0) {
            start(arguments[0]);
            System.out.println("ready");
            return;
        }
        var keys = new ConsulClient(Tap.CONSUL.getHost(), Tap.CONSUL.getPort());
        keys.setKVValue("config/spring-consumer/greeting", "hello");
        var context = start("spring-consumer");
        var discovery = context.getBean(DiscoveryClient.class);
        check("it registers itself", until(() -> discovery.getInstances("spring-consumer").size() == 1), "");
        var own = discovery.getInstances("spring-consumer").get(0);
        check("where it listens", own.getPort() == context.getWebServer().getPort()
            && own.getHost().equals("127.0.0.1") && own.getInstanceId().equals("spring-consumer-1"), own);
        var environment = context.getBean(Environment.class);
        check("configuration from keys", "hello".equals(environment.getProperty("greeting")), environment);
        keys.setKVValue("config/spring-consumer/greeting", "good-bye");
        check("and its changes", until(() -> "good-bye".equals(environment.getProperty("greeting"))), "");

        int before = HEARTBEATS.get();
        var provider = Tap.child(Spring.class, "spring-provider");
        check("another application is found", until(() -> discovery.getInstances("spring-provider").size() == 1), "");
        check("the watch of the catalogue told of it", until(() -> HEARTBEATS.get() > before), before);
        var balanced = context.getBean(LoadBalancerClient.class).choose("spring-provider");
        check("the load balancer chooses it", balanced != null && balanced.getPort() > 0, balanced);
        check("its name is listed", discovery.getServices().contains("spring-provider"), discovery.getServices());
        provider.destroyForcibly();
        check("killed, it is not given any more", until(() -> discovery.getInstances("spring-provider").isEmpty()), "");
        var request = CatalogServiceRequest.newBuilder().build();
        check("and then gone by itself",
            until(() -> keys.getCatalogService("spring-provider", request).getValue().isEmpty()), "");
        context.close();
        check("an application that ends deregisters itself",
            keys.getCatalogService("spring-consumer", request).getValue().isEmpty(), "");
        keys.deleteKVValues("config/spring-consumer");
    }
}
