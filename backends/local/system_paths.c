#include "backends/local/system_paths.h"

#include <stddef.h>

const char *const system_folders[] = {
    "/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", NULL,
};

const char *const etc_entries[] = {
    "/etc/ImageMagick-6",   "/etc/R",
    "/etc/alternatives",    "/etc/debian_version",
    "/etc/fonts",           "/etc/ipython",
    "/etc/java-17-openjdk", "/etc/ld.so.cache",
    "/etc/ld.so.conf",      "/etc/ld.so.conf.d",
    "/etc/localtime",       "/etc/magic",
    "/etc/matplotlibrc",    "/etc/mime.types",
    "/etc/os-release",      "/etc/perl",
    "/etc/protocols",       "/etc/python3",
    "/etc/python3.11",      "/etc/services",
    "/etc/ssl/certs",       "/etc/ssl/openssl.cnf",
    "/etc/timezone",        NULL,
};

const char *const etc_network[] = {"/etc/hosts", "/etc/resolv.conf", NULL};
